// SPDX-License-Identifier: Apache-2.0
#include "app/units.hpp"

#include <gtest/gtest.h>

namespace spillway::app {
namespace {

using namespace std::chrono_literals;

TEST(ParseSize, ReadsBinaryAndDecimalUnits) {
  EXPECT_EQ(parse_size("24GiB"), std::uint64_t{24} << 30);
  EXPECT_EQ(parse_size("16MiB"), std::uint64_t{16} << 20);
  EXPECT_EQ(parse_size("3 GB"), 3'000'000'000U);
  EXPECT_EQ(parse_size("7MB"), 7'000'000U);
  EXPECT_EQ(parse_size("1.5KiB"), 1536U);
  EXPECT_EQ(parse_size("0B"), 0U);
  EXPECT_EQ(parse_size("9007199254740993B"), 9007199254740993U);  // not a double
}

TEST(ParseSize, RefusesEverythingElse) {
  for (const char* text : {"", "24", "GiB", "-1GiB", "24G", "24gib", "24GiBs", "1e3MB", "nanGiB", "infB", "1 2GB",
                           "9223372036854775808B", "99999999999999999999B", "8388608TiB", "8388608.5TiB"}) {
    EXPECT_EQ(parse_size(text), std::nullopt) << text;
  }
}

TEST(SizeText, ReadsBackEqual) {
  EXPECT_EQ(size_text(std::uint64_t{16} << 20), "16MiB");
  EXPECT_EQ(size_text(3'000'000'000), "3GB");
  for (const std::uint64_t bytes :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{4097}, std::uint64_t{5} << 39, std::uint64_t{INT64_MAX}}) {
    EXPECT_EQ(parse_size(size_text(bytes)), bytes);
  }
}

TEST(ParseDuration, AddsUnits) {
  EXPECT_EQ(parse_duration("3h50m"), 13800s);
  EXPECT_EQ(parse_duration("5m"), 300s);
  EXPECT_EQ(parse_duration("90s"), 90s);
  EXPECT_EQ(parse_duration("1d2h3m4s"), 93784s);
  EXPECT_EQ(parse_duration(""), 0s);
}

TEST(ParseDuration, RefusesEverythingElse) {
  for (const char* text : {"5", "m", "5m3h", "5m5m", "-5m", "5 m", "1.5h", "5min", "4294967296s", "10001d"}) {
    EXPECT_EQ(parse_duration(text), std::nullopt) << text;
  }
}

TEST(DurationText, ReadsBackEqual) {
  EXPECT_EQ(duration_text(13800s), "3h50m");
  for (const auto seconds : {0s, 1s, 59s, 60s, 86399s, 86400s, 1234567s}) {
    EXPECT_EQ(parse_duration(duration_text(seconds)), seconds);
  }
}

}  // namespace
}  // namespace spillway::app
