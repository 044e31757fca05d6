// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor_view.hpp"

namespace spillway::checkpoint {

// The bytes of a checkpoint, version 2. Everything is little-endian.
//
//   ROOT/LATEST                  the name of the folder committed last, for people and scripts
//   ROOT/step-000000123/         a committed checkpoint; step-000000123.tmp/ is one being written or removed
//     rank-00000-of-00002.h5     /<kind>/unit-000: fp32, piece 0 of the unit's flat buffer in the kind's layout,
//                                contiguous, on a 4 KiB boundary, zeros up to a multiple of 4 KiB; none for a unit
//                                that is empty in that layout;
//                                /hash/<kind>/unit-000: u64, one XXH3 for each MiB of it
//     checkpoint.h5              /<kind>/<Hugging Face name>: virtual datasets of whole tensors; attributes of the root
//     manifest.json              every file's size and hash, the kinds and their tensor tables, and its own hash
//
// Version 1 had one tensor table for all kinds; it is still read.
//
// A file's hash covers every byte of it: the file is cut into regions, its bulk datasets and what lies between them
// (HDF5's metadata and the hash datasets). Each region is hashed MiB by MiB from its own start, and the file's hash is
// the XXH3 of all these hashes in file order. The manifest lists the hashes of the regions between, so that they can be
// checked before HDF5 parses them.

inline constexpr std::string_view kFormatName = "spillway-checkpoint";
inline constexpr std::int64_t kFormatVersion = 2;
inline constexpr std::int64_t kOldestVersion = 1;  // that is still read
/// Bytes: of bulk datasets in the file and in length, and of the buffers that carry them.
inline constexpr std::size_t kAlignment = 4096;

inline constexpr std::string_view kLatest = "LATEST";
inline constexpr std::string_view kLockFile = "lock";
inline constexpr std::string_view kTensorFile = "checkpoint.h5";
inline constexpr std::string_view kManifestFile = "manifest.json";

/// "step-000000123"
[[nodiscard]] std::string step_name(std::int64_t step);
/// The step of a folder name; nothing for any other name, ".tmp" and ".old" included.
[[nodiscard]] std::optional<std::int64_t> step_of_name(std::string_view name);
/// "rank-00000-of-00002.h5"
[[nodiscard]] std::string rank_file_name(int piece, int ranks);
/// "/master/unit-000" and "/hash/master/unit-000"
[[nodiscard]] std::string dataset_name(const std::string& kind, int unit);
[[nodiscard]] std::string hash_dataset_name(const std::string& kind, int unit);

/// Elements of a dataset that holds `shard_elements`: up to a multiple of kAlignment bytes.
[[nodiscard]] std::int64_t dataset_elements(std::int64_t shard_elements) noexcept;

/// A block of a tensor, the same rank as its shape, whose elements are consecutive in row-major order.
struct Box {
  std::vector<std::int64_t> start;
  std::vector<std::int64_t> count;
  std::int64_t elements = 0;
};

/// The flat range [begin, end) of a tensor as the fewest blocks, ascending: up to three for a matrix (part of a row,
/// whole rows, part of a row), one for a vector. A scalar counts as a vector of one.
[[nodiscard]] std::vector<Box> boxes(const Shape& shape, std::int64_t begin, std::int64_t end);

}  // namespace spillway::checkpoint
