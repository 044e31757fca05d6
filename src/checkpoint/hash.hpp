// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace spillway::checkpoint {

/// Bytes under one hash; the last block of a dataset may be shorter.
inline constexpr std::size_t kHashBlock = std::size_t{1} << 20;

/// XXH3, 64 bits, seed 0.
[[nodiscard]] std::uint64_t hash_of(std::span<const std::byte> bytes) noexcept;

/// The hash of hashes, each as 8 little-endian bytes.
[[nodiscard]] std::uint64_t hash_of_hashes(std::span<const std::uint64_t> hashes) noexcept;

/// One hash for every kHashBlock of `bytes`, at the end of `hashes`.
void append_block_hashes(std::span<const std::byte> bytes, std::vector<std::uint64_t>& hashes);

/// 16 lower-case hexadecimal digits: JSON readers lose the low bits of large numbers.
[[nodiscard]] std::string hash_text(std::uint64_t hash);

}  // namespace spillway::checkpoint
