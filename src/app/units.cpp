// SPDX-License-Identifier: Apache-2.0
#include "app/units.hpp"

#include <array>
#include <charconv>

namespace spillway::app {
namespace {

struct SizeUnit {
  std::string_view name;
  std::uint64_t bytes;
};
// Binary ones first and large ones first: size_text takes the first that fits.
constexpr std::array<SizeUnit, 9> kSizeUnits = {{{"TiB", std::uint64_t{1} << 40},
                                                 {"GiB", std::uint64_t{1} << 30},
                                                 {"MiB", std::uint64_t{1} << 20},
                                                 {"KiB", std::uint64_t{1} << 10},
                                                 {"TB", 1'000'000'000'000},
                                                 {"GB", 1'000'000'000},
                                                 {"MB", 1'000'000},
                                                 {"KB", 1'000},
                                                 {"B", 1}}};

struct TimeUnit {
  char name;
  std::int64_t seconds;
};
constexpr std::array<TimeUnit, 4> kTimeUnits = {{{'d', 86'400}, {'h', 3'600}, {'m', 60}, {'s', 1}}};
constexpr std::int64_t kLongest = 10'000 * std::int64_t{86'400};

}  // namespace

std::optional<std::uint64_t> parse_size(std::string_view text) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  if (error != std::errc{} || !(number >= 0)) return std::nullopt;
  std::string_view name(rest, static_cast<std::size_t>(end - rest));
  while (name.starts_with(' ')) name.remove_prefix(1);
  for (const SizeUnit& unit : kSizeUnits) {
    if (name != unit.name) continue;
    std::uint64_t whole = 0;  // exact where a double is not
    const auto digits = std::from_chars(text.data(), rest, whole);
    if (digits.ec == std::errc{} && digits.ptr == rest) {
      if (whole > (std::uint64_t{INT64_MAX} / unit.bytes)) return std::nullopt;
      return whole * unit.bytes;
    }
    const double bytes = number * static_cast<double>(unit.bytes);
    if (bytes >= 0x1p63) return std::nullopt;
    return static_cast<std::uint64_t>(bytes);
  }
  return std::nullopt;
}

std::string size_text(std::uint64_t bytes) {
  for (const SizeUnit& unit : kSizeUnits) {
    if (bytes >= unit.bytes && bytes % unit.bytes == 0)
      return std::to_string(bytes / unit.bytes) + std::string(unit.name);
  }
  return "0B";
}

std::optional<std::chrono::seconds> parse_duration(std::string_view text) {
  std::int64_t total = 0;
  const TimeUnit* next = kTimeUnits.data();
  while (!text.empty()) {
    std::uint32_t number = 0;
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc{} || rest == end) return std::nullopt;
    while (next != kTimeUnits.data() + kTimeUnits.size() && next->name != *rest) ++next;
    if (next == kTimeUnits.data() + kTimeUnits.size()) return std::nullopt;
    total += number * next->seconds;
    if (total > kLongest) return std::nullopt;
    ++next;
    text.remove_prefix(static_cast<std::size_t>(rest + 1 - text.data()));
  }
  return std::chrono::seconds(total);
}

std::string duration_text(std::chrono::seconds duration) {
  std::string text;
  std::int64_t left = duration.count();
  for (const TimeUnit& unit : kTimeUnits) {
    if (left >= unit.seconds) text += std::to_string(left / unit.seconds) + unit.name;
    left %= unit.seconds;
  }
  return text;
}

}  // namespace spillway::app
