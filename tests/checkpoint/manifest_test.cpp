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
  const auto kinds = factored_kinds();
  Manifest manifest{7, 3, 2, {{"master", 0}, {"exp_avg", 0}, {"exp_avg_sq", 1}}, {small_tensors(), kinds[2].second},
                    {}};
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
  EXPECT_EQ(read.layouts, written.layouts);
  EXPECT_EQ(read.kinds[2].name, "exp_avg_sq");
  EXPECT_EQ(read.kinds[2].layout, 1U);
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
  text.replace(text.find("\"version\": 2"), 12, "\"version\": 3");

  EXPECT_THAT(refusal(text), AllOf(HasSubstr("version 3"), HasSubstr("reads versions 1 and 2")));
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

TEST(Manifest, OfVersion1HasOneTableForAllKinds) {
  Manifest manifest = example();
  manifest.layouts.pop_back();
  manifest.kinds.back().layout = 0;

  const Manifest read = parse_manifest(as_version_1(manifest_text(manifest)), "m.json");

  EXPECT_EQ(manifest_text(read), manifest_text(manifest));
}

class ManifestTables : public testing::TestWithParam<std::size_t> {};

TEST_P(ManifestTables, ThatNoWriterCanMakeAreRefused) {
  const auto refused = [](const auto& change) {
    Manifest manifest = example();
    change(manifest, manifest.layouts[GetParam()].back());
    return refusal(manifest_text(manifest));
  };

  EXPECT_THAT(refused([](Manifest& manifest, const TensorSpec& tensor) {
                manifest.layouts[GetParam()].push_back(tensor);
                manifest.layouts[GetParam()].back().name = "another";
              }),
              HasSubstr("overlaps"));
  EXPECT_THAT(refused([](Manifest& manifest, TensorSpec tensor) {
                tensor.offset += round_up(tensor.shape.elements(), kShardAlignment);
                manifest.layouts[GetParam()].push_back(tensor);
              }),
              HasSubstr("weight is there twice"));
  EXPECT_THAT(refused([](Manifest&, TensorSpec& tensor) { tensor.unit = 2'000'000'000; }),
              HasSubstr("unit 2000000000, expected 0 to 4095"));
  EXPECT_THAT(refused([](Manifest&, TensorSpec& tensor) { tensor.unit = -1; }), HasSubstr("unit -1"));
  EXPECT_THAT(refused([](Manifest&, TensorSpec& tensor) { tensor.offset = -256; }), HasSubstr("at offset -256"));
  EXPECT_THAT(refused([](Manifest&, TensorSpec& tensor) { tensor.offset = INT64_MAX - 300; }),
              HasSubstr("out of range"));
  EXPECT_THAT(refused([](Manifest&, TensorSpec& tensor) { tensor.shape = Shape{std::int64_t{1} << 45}; }),
              HasSubstr("35184372088832 elements at offset"));
}

INSTANTIATE_TEST_SUITE_P(Layouts, ManifestTables, testing::Values(0, 1));

TEST(Manifest, KindsWithoutATableOfTheirsAreRefused) {
  Manifest manifest = example();
  manifest.kinds[2].layout = 2;
  EXPECT_THAT(refusal(manifest_text(manifest)), HasSubstr("exp_avg_sq has layout 2, found 2 layouts"));
  manifest = example();
  manifest.kinds[1].name = "master";
  EXPECT_THAT(refusal(manifest_text(manifest)), HasSubstr("\"master\""));
  manifest.kinds[1].name = "hash/master";
  EXPECT_THAT(refusal(manifest_text(manifest)), HasSubstr("\"hash/master\""));
  manifest = example();
  manifest.layouts.resize(4);
  EXPECT_THAT(refusal(manifest_text(manifest)), HasSubstr("4 layouts for 3 kinds"));
}

TEST(Manifest, AFileRecordComesBack) {
  const FileRecord record = parse_file_record(file_record_text(example().files[0]));

  EXPECT_EQ(file_record_text(record), file_record_text(example().files[0]));
  EXPECT_EQ(record.hash, 0xFEDCBA9876543210U);
}

}  // namespace
}  // namespace spillway::checkpoint
