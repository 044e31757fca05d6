// SPDX-License-Identifier: Apache-2.0
#include "train/event_file.hpp"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include <gmock/gmock.h>

#include "core/error.hpp"
#include "support/scratch_directory.hpp"

namespace spillway::train {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

template <typename T>
T fixed(std::string_view& bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  bytes.remove_prefix(sizeof(T));
  return value;
}

std::uint64_t varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes.at(0));
    bytes.remove_prefix(1);
    value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
}

std::string_view piece(std::string_view& bytes) {
  const std::uint64_t size = varint(bytes);
  const std::string_view found = bytes.substr(0, size);
  bytes.remove_prefix(size);
  return found;
}

struct Event {
  double wall_time = 0.0;
  std::uint64_t step = 0;
  std::string version;
  std::vector<std::pair<std::string, float>> scalars;
};

Event parsed(std::string_view bytes) {
  Event event;
  while (!bytes.empty()) {
    switch (varint(bytes)) {
      case 1 << 3 | 1: event.wall_time = fixed<double>(bytes); break;
      case 2 << 3 | 0: event.step = varint(bytes); break;
      case 3 << 3 | 2: event.version = piece(bytes); break;
      case 5 << 3 | 2:
        for (std::string_view summary = piece(bytes); !summary.empty();) {
          EXPECT_EQ(varint(summary), 1U << 3 | 2);
          std::string_view value = piece(summary);
          EXPECT_EQ(varint(value), 1U << 3 | 2);
          const std::string tag(piece(value));
          EXPECT_EQ(varint(value), 2U << 3 | 5);
          event.scalars.emplace_back(tag, fixed<float>(value));
          EXPECT_THAT(value, IsEmpty());
        }
        break;
      default: ADD_FAILURE() << "an unknown field"; return event;
    }
  }
  return event;
}

std::uint32_t unmasked(std::uint32_t masked) {
  const std::uint32_t rotated = masked - 0xa282ead8U;
  return (rotated >> 17) | (rotated << 15);
}

std::vector<Event> events_of(const std::string& folder) {
  std::vector<Event> events;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    std::ostringstream all;
    all << file.rdbuf();
    const std::string text = all.str();
    for (std::string_view bytes = text; !bytes.empty();) {
      EXPECT_EQ(crc32c(bytes.substr(0, 8)), [&] {
        std::string_view crc = bytes.substr(8, 4);
        return unmasked(fixed<std::uint32_t>(crc));
      }());
      const auto size = fixed<std::uint64_t>(bytes);
      bytes.remove_prefix(4);
      events.push_back(parsed(bytes.substr(0, size)));
      EXPECT_EQ(crc32c(bytes.substr(0, size)), [&] {
        std::string_view crc = bytes.substr(size, 4);
        return unmasked(fixed<std::uint32_t>(crc));
      }());
      bytes.remove_prefix(size + 4);
    }
  }
  return events;
}

TEST(Crc32c, GivesTheValuesOfRfc3720) {
  EXPECT_EQ(crc32c(""), 0U);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
}

TEST(EventFile, HoldsItsVersionAndTheScalarsOfEachStep) {
  const test::ScratchDirectory folder;
  const std::string runs = folder.file("runs");
  EventFile file(runs);
  const std::vector<Scalar> first = {{"train/loss", 2.5}, {"train/epoch", 0.25}};
  const std::vector<Scalar> second = {{std::string(300, 'x'), -1e-9}};

  file.write(1, first);
  file.write(std::int64_t{1} << 40, second);

  const std::vector<Event> events = events_of(runs);
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_GT(events[0].wall_time, 1.7e9);
  EXPECT_EQ(events[1].step, 1U);
  EXPECT_THAT(events[1].scalars, ElementsAre(Pair("train/loss", 2.5F), Pair("train/epoch", 0.25F)));
  EXPECT_EQ(events[2].step, std::uint64_t{1} << 40);
  EXPECT_THAT(events[2].scalars, ElementsAre(Pair(std::string(300, 'x'), -1e-9F)));
}

TEST(EventFile, AnotherInTheSameFolder_HasANameOfItsOwn) {
  const test::ScratchDirectory folder;
  const EventFile one(folder.path());
  const EventFile other(folder.path());

  EXPECT_EQ(events_of(folder.path()).size(), 2U);
}

TEST(EventFile, WhereNoneCanBe_SaysSo) { EXPECT_THROW(EventFile("/dev/null/runs"), IoError); }

}  // namespace
}  // namespace spillway::train
