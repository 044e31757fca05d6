// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "checkpoint/files.hpp"

namespace spillway::checkpoint {

/// Bytes of an element of one of safetensors' types; 0 if there is no such type.
[[nodiscard]] std::uint64_t bytes_of_dtype(std::string_view dtype) noexcept;

/// F64, F32, F16 and BF16: what weights may be.
[[nodiscard]] bool is_float_dtype(std::string_view dtype) noexcept;

/// Reads to.size() little-endian values of a float type from a file and gives them as fp32; F64 is rounded. Blocks.
/// \param path  for messages  \throws Error for another dtype; IoError
void read_floats(const FileDescriptor& file, const std::string& path, std::uint64_t offset_bytes,
                 std::string_view dtype, std::span<float> to);

}  // namespace spillway::checkpoint
