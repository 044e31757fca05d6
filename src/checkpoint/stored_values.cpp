// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/stored_values.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include <fmt/format.h>

#include "core/dtype.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

static_assert(std::endian::native == std::endian::little, "files of weights are little-endian");

constexpr std::array<std::pair<std::string_view, std::uint64_t>, 15> kBytes = {{{"F64", 8},
                                                                                {"F32", 4},
                                                                                {"F16", 2},
                                                                                {"BF16", 2},
                                                                                {"F8_E4M3", 1},
                                                                                {"F8_E5M2", 1},
                                                                                {"I64", 8},
                                                                                {"I32", 4},
                                                                                {"I16", 2},
                                                                                {"I8", 1},
                                                                                {"U64", 8},
                                                                                {"U32", 4},
                                                                                {"U16", 2},
                                                                                {"U8", 1},
                                                                                {"BOOL", 1}}};

/// Reads values of another type through a piece of stack and converts them.
template <typename Stored, typename Convert>
void read_converted(const FileDescriptor& file, const std::string& path, std::uint64_t offset, std::span<float> to,
                    const Convert& convert) {
  std::array<Stored, 32768 / sizeof(Stored)> chunk;
  for (std::size_t done = 0; done < to.size(); done += chunk.size()) {
    const auto values = std::span(chunk).first(std::min(chunk.size(), to.size() - done));
    read_fully(file, path, offset + done * sizeof(Stored), std::as_writable_bytes(values));
    std::ranges::transform(values, to.subspan(done).begin(), convert);
  }
}

}  // namespace

std::uint64_t bytes_of_dtype(std::string_view dtype) noexcept {
  const auto* const found = std::ranges::find(kBytes, dtype, [](const auto& entry) { return entry.first; });
  return found == kBytes.end() ? 0 : found->second;
}

bool is_float_dtype(std::string_view dtype) noexcept {
  return dtype == "F32" || dtype == "F16" || dtype == "BF16" || dtype == "F64";
}

void read_floats(const FileDescriptor& file, const std::string& path, std::uint64_t offset_bytes,
                 std::string_view dtype, std::span<float> to) {
  if (dtype == "F32") read_fully(file, path, offset_bytes, std::as_writable_bytes(to));
  else if (dtype == "F16") read_converted<std::uint16_t>(file, path, offset_bytes, to, float_from_f16);
  else if (dtype == "BF16") read_converted<std::uint16_t>(file, path, offset_bytes, to, float_from_bf16);
  else if (dtype == "F64")
    read_converted<double>(file, path, offset_bytes, to, [](double value) { return static_cast<float>(value); });
  else throw Error(fmt::format("{}: {} is no float type", path, dtype));
}

}  // namespace spillway::checkpoint
