// SPDX-License-Identifier: Apache-2.0
// Private to src/checkpoint.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "checkpoint/hdf5.hpp"
#include "checkpoint/layout.hpp"

namespace spillway::checkpoint::hdf5 {

/// A file that HDF5 lays out in memory: its length, and the pages that HDF5 wrote; the space of bulk datasets has none.
/// HDF5 thus never meets a full disk, after which (1.10) it can neither close the file nor end the process in order.
struct FileImage {
  using Page = std::array<std::byte, kAlignment>;
  std::uint64_t bytes = 0;
  std::map<std::uint64_t, Page> pages;  // by number; a page has the bytes from number * kAlignment
};

/// Creates a file in `image`, which must outlive it, with the properties that checkpoint files have: format of HDF5
/// 1.10, objects from 4 KiB upwards on 4 KiB boundaries. \param path  for messages
[[nodiscard]] File create_image(FileImage& image, const std::string& path);

/// Closes a file of create_image: now the image is whole. \throws IoError, which a destructor could only log
void close_image(File file, const std::string& path);

/// Creates or replaces a file on disk, with room for all of it. Not yet durable. \throws IoError: a full disk, for one
void write_image(const FileImage& image, const std::string& path);

}  // namespace spillway::checkpoint::hdf5
