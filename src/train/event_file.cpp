// SPDX-License-Identifier: Apache-2.0
#include "train/event_file.hpp"

#include <bit>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <type_traits>

#include <fmt/format.h>
#include <unistd.h>

#include "core/error.hpp"
#include "core/host_name.hpp"

namespace spillway::train {
namespace {

// Fields of Event, of its Summary and of the Summary's values.
constexpr int kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5;
constexpr int kValue = 1;
constexpr int kTag = 1, kSimpleValue = 2;
// Protocol buffers' wire types.
constexpr int kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;

template <typename T>
void put_fixed(std::string& to, T value) {
  static_assert(std::is_unsigned_v<T>);
  for (std::size_t byte = 0; byte < sizeof(T); ++byte) to += static_cast<char>((value >> (8 * byte)) & 0xff);
}

void put_varint(std::string& to, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) to += static_cast<char>((value & 0x7f) | 0x80);
  to += static_cast<char>(value);
}

void put_key(std::string& to, int field, int type) { put_varint(to, static_cast<std::uint64_t>(field << 3 | type)); }

void put_bytes(std::string& to, int field, std::string_view bytes) {
  put_key(to, field, kBytes);
  put_varint(to, bytes.size());
  to += bytes;
}

std::string event_now() {
  const double now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::string event;
  put_key(event, kWallTime, kFixed64);
  put_fixed(event, std::bit_cast<std::uint64_t>(now));
  return event;
}

std::uint32_t masked(std::uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8U; }

/// A name that no file of this folder has.
std::string new_path(const std::string& folder) {
  const auto now =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch());
  for (int number = 0;; ++number) {
    const std::string path =
        fmt::format("{}/events.out.tfevents.{:010}.{}.{}.{}", folder, now.count(), host_name(), ::getpid(), number);
    if (!std::filesystem::exists(path)) return path;
  }
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) noexcept {
  constexpr std::uint32_t kPolynomial = 0x82f63b78U;  // bits reversed
  std::uint32_t crc = 0xffffffffU;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? kPolynomial : 0U);
  }
  return ~crc;
}

EventFile::EventFile(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw IoError(fmt::format("{}: cannot be made", folder), error.value());
  path_ = new_path(folder);
  file_.open(path_, std::ios::binary);
  if (!file_) throw IoError(fmt::format("{}: cannot be written", path_), errno);
  std::string event = event_now();
  put_bytes(event, kFileVersion, "brain.Event:2");
  record(event);
}

void EventFile::write(std::int64_t step, std::span<const Scalar> scalars) {
  std::string summary;
  for (const Scalar& scalar : scalars) {
    std::string value;
    put_bytes(value, kTag, scalar.tag);
    put_key(value, kSimpleValue, kFixed32);
    put_fixed(value, std::bit_cast<std::uint32_t>(static_cast<float>(scalar.value)));
    put_bytes(summary, kValue, value);
  }
  std::string event = event_now();
  put_key(event, kStep, kVarint);
  put_varint(event, static_cast<std::uint64_t>(step));
  put_bytes(event, kSummary, summary);
  record(event);
}

void EventFile::record(std::string_view event) {
  std::string framed;
  put_fixed(framed, static_cast<std::uint64_t>(event.size()));
  put_fixed(framed, masked(crc32c(framed)));
  framed += event;
  put_fixed(framed, masked(crc32c(event)));
  file_ << framed << std::flush;
  if (!file_) throw IoError(fmt::format("{}: cannot be written", path_), errno);
}

}  // namespace spillway::train
