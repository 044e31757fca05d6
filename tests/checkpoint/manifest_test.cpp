// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/manifest.hpp"

#include <gmock/gmock.h>

#include "checkpoint/fixtures.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Manifest example() {
  Manifest manifest{7, 3, 2, kKinds, small_tensors(), {}};
  manifest.files = {{"rank-00000-of-00002.h5", 8192, 0xFEDCBA9876543210U, {{0, 4096, 1}}},
                    {"rank-00001-of-00002.h5", 8192, 2, {}},
                    {"checkpoint.h5", 100, 3, {{0, 100, 4}}}};
  return manifest;
}

std::string refusal(const std::string& text) {
  return message_of<DataError>([&] { static_cast<void>(parse_manifest(text, "m.json")); });
}

TEST(Manifest, ComesBackWhole) {
  const Manifest written = example();

  const Manifest read = parse_manifest(manifest_text(written), "m.json");

  EXPECT_EQ(manifest_text(read), manifest_text(written));
  EXPECT_EQ(read.step, 7);
  EXPECT_EQ(read.sequence, 3);
  EXPECT_EQ(read.files[0].hash, 0xFEDCBA9876543210U);
  EXPECT_EQ(read.files[0].metadata[0].bytes, 4096U);
  EXPECT_EQ(read.shard_map().shard(1, 1), ShardMap(small_tensors(), 2).shard(1, 1));
}

TEST(Manifest, EveryChangedByteIsNoticed) {
  const std::string text = manifest_text(example());
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    ASSERT_THAT(refusal(changed), HasSubstr("m.json")) << i;
  }
}

TEST(Manifest, EveryTruncationIsNoticed) {
  const std::string text = manifest_text(example());
  for (std::size_t size = 0; size < text.size(); size += 13)
    ASSERT_THAT(refusal(text.substr(0, size)), HasSubstr("m.json")) << size;
}

TEST(Manifest, AChangedValueDoesNotMatchTheHash) {
  std::string text = manifest_text(example());
  text.replace(text.find("\"step\": 7"), 9, "\"step\": 8");

  EXPECT_THAT(refusal(text), HasSubstr("changed or damaged"));
}

TEST(Manifest, AnotherVersionIsRefusedByNumber) {
  std::string text = manifest_text(example());
  text.replace(text.find("\"version\": 1"), 12, "\"version\": 2");

  EXPECT_THAT(refusal(text), AllOf(HasSubstr("version 2"), HasSubstr("reads version 1")));
}

TEST(Manifest, AnotherFormatIsRefused) {
  EXPECT_THAT(refusal(R"({"format": "other", "version": 1})"), HasSubstr("other"));
}

TEST(Manifest, FilesThatAreNotThoseOfItsRanksAreRefused) {
  Manifest manifest = example();
  manifest.files[1].name = "../../secret";
  EXPECT_THAT(refusal(manifest_text(manifest)), AllOf(HasSubstr("../../secret"), HasSubstr("rank-00001-of-00002.h5")));
  manifest.files.pop_back();
  EXPECT_THAT(refusal(manifest_text(manifest)), HasSubstr("2 files for 2 ranks"));
}

TEST(Manifest, NestingThatWouldExhaustTheStackIsRefused) {
  const std::string deep = std::string(50000, '[') + std::string(50000, ']');
  std::string text = manifest_text(example());
  text.insert(1, "\"a\": " + deep + ",");

  EXPECT_THAT(refusal(text), HasSubstr("m.json: the JSON nests deeper than"));
}

TEST(Manifest, ATensorBeyondWhatSizesCanCountIsRefused) {
  Manifest manifest = example();
  manifest.tensors.back().offset = INT64_MAX - 6000;
  EXPECT_THAT(refusal(manifest_text(manifest)), HasSubstr("is out of range"));
}

TEST(Manifest, OverlappingTensorsAreRefused) {
  Manifest manifest = example();
  manifest.tensors[1].offset = 1;
  EXPECT_THAT(refusal(manifest_text(manifest)), HasSubstr("overlaps"));
}

TEST(Manifest, AFileRecordComesBack) {
  const FileRecord record = parse_file_record(file_record_text(example().files[0]));

  EXPECT_EQ(file_record_text(record), file_record_text(example().files[0]));
  EXPECT_EQ(record.hash, 0xFEDCBA9876543210U);
}

}  // namespace
}  // namespace spillway::checkpoint
