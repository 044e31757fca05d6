// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace spillway::checkpoint {

/// The largest pickle that is read, in bytes: state dicts of the largest models have some 100 KiB.
inline constexpr std::size_t kMaxPickleBytes = std::size_t{16} << 20;

/// One object of a pickle. Objects name each other by their number in Pickle::objects.
struct PickleObject {
  /// `call` is a global called with arguments, which nobody executes: items are the global and the tuple of arguments.
  /// `persistent` is a persistent id: its one item is the id.
  enum class Kind { none, boolean, integer, real, text, tuple, list, dict, global, call, persistent };
  Kind kind = Kind::none;
  std::int64_t integer = 0;  // of boolean too
  double real = 0.0;
  std::string text;                  // of global: "module.name"
  std::vector<std::uint32_t> items;  // of dict: key, value, key, value, ...
};

/// A pickle taken apart. Nothing in it was executed or imported.
struct Pickle {
  std::vector<PickleObject> objects;
  std::uint32_t root = 0;
  std::size_t bytes = 0;  // that it took, up to and with its end
};

/// Takes a pickle apart that torch.save wrote (protocol 2): only the opcodes and the globals that state dicts of tensors have.
/// Memory is bounded by the size of `bytes`, nothing recurses, and an object that contains itself does no harm.
/// \param bytes   starts with the pickle; more may follow it
/// \param origin  the file for messages
/// \throws DataError naming the byte and the opcode or the global that is refused
[[nodiscard]] Pickle parse_pickle(std::span<const std::byte> bytes, const std::string& origin);

}  // namespace spillway::checkpoint
