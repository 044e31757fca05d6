// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors_writer.hpp"

#include <cstdlib>
#include <numeric>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "checkpoint/fixtures.hpp"
#include "checkpoint/safetensors_file.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<SafetensorsSpec> example() {
  return {{"small", DType::bf16, {3}},
          {"z", DType::f32, {2, 3}},
          {"a", DType::f32, {100, 777}},
          {"half", DType::f16, {40'000}},
          {"none", DType::f32, {0, 4}}};
}

std::vector<float> ramp(std::size_t elements) {
  std::vector<float> values(elements);
  std::iota(values.begin(), values.end(), -1000.0F);
  return values;
}

TEST(SafetensorsWriter, HeaderIsThatOfTheSafetensorsLibrary) {
  const ScratchFolder folder;
  const SafetensorsWriter writer({{"b", DType::bf16, {3}}, {"z", DType::f32, {2, 3}}, {"a", DType::f32, {1}}});
  writer.create(folder / "m");
  writer.commit(folder / "m");

  const std::string bytes = read_text(folder / "m");
  const std::string expected =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
      R"("z":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]},)"
      R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[28,34]}})";
  EXPECT_EQ(bytes.substr(8, expected.size()), expected);
  EXPECT_EQ(static_cast<unsigned char>(bytes[0]) % 8, 0);
  EXPECT_EQ(bytes.size(), writer.file_bytes());
}

TEST(SafetensorsWriter, MetadataComesBackBesideTheFormat) {
  const ScratchFolder folder;
  const SafetensorsWriter writer({{"a", DType::f32, {1}}}, {{"writer", "a test"}});
  writer.create(folder / "m");
  writer.commit(folder / "m");

  EXPECT_THAT(SafetensorsFile(folder / "m").metadata(),
              ElementsAre(std::pair<const std::string, std::string>("format", "pt"),
                          std::pair<const std::string, std::string>("writer", "a test")));
}

TEST(SafetensorsWriter, SlicesOfSeveralWritersComeBack) {
  const ScratchFolder folder;
  const std::string path = folder / "model.safetensors";
  const SafetensorsWriter one(example()), other(example());
  one.create(path);

  for (const SafetensorsSpec& spec : example()) {
    std::size_t elements = 1;
    for (const std::int64_t extent : spec.shape) elements *= static_cast<std::size_t>(extent);
    const auto values = ramp(elements);
    other.write_slice(path, spec.name, static_cast<std::int64_t>(elements / 3),
                      std::span(values).subspan(elements / 3));
    one.write_slice(path, spec.name, 0, std::span(values).first(elements / 3));
  }
  EXPECT_THAT(names_in(folder.path()), ElementsAre("model.safetensors.tmp"));
  one.commit(path);

  EXPECT_THAT(names_in(folder.path()), ElementsAre("model.safetensors"));
  const SafetensorsFile file(path);
  for (const StoredTensor& entry : file.tensors()) {
    std::vector<float> expected = ramp(static_cast<std::size_t>(entry.elements())), found(expected.size());
    file.read(entry.name, 0, found);
    for (float& value : expected) {
      if (entry.dtype == "F16") value = float_from_f16(f16_from_float(value));
      if (entry.dtype == "BF16") value = float_from_bf16(bf16_from_float(value));
    }
    EXPECT_EQ(found, expected) << entry.name;
  }
}

TEST(SafetensorsWriter, TheSafetensorsLibraryReadsIt) {
  if (std::system("python3 -c 'import numpy, safetensors' 2>/dev/null") != 0)
    GTEST_SKIP() << "python3 has no safetensors here";
  const ScratchFolder folder;
  const SafetensorsWriter writer({{"w", DType::f32, {2, 3}}, {"h", DType::f16, {2}}});
  writer.create(folder / "m");
  writer.write_slice(folder / "m", "w", 0, std::vector<float>{1, 2, 3, 4, 5, 6});
  writer.write_slice(folder / "m", "h", 0, std::vector<float>{0.5F, -8});
  writer.commit(folder / "m");

  const std::string script = R"(import sys; from safetensors.numpy import load_file; t = load_file(sys.argv[1]); )"
                             R"(assert t["w"].tolist() == [[1, 2, 3], [4, 5, 6]] and t["h"].tolist() == [0.5, -8], t)";
  EXPECT_EQ(std::system(fmt::format("python3 -c '{}' '{}'", script, folder / "m").c_str()), 0);
}

TEST(SafetensorsWriter, WhatItCannotWriteIsNamed) {
  const ScratchFolder folder;
  EXPECT_THAT(message_of<Error>([] {
                SafetensorsWriter({{"w", DType::i32, {1}}});
              }),
              HasSubstr("tensor w: writing i32"));
  EXPECT_THAT(message_of<Error>([] {
                SafetensorsWriter({{"w", DType::f32, {1}}, {"w", DType::f32, {1}}});
              }),
              HasSubstr("tensor w is there twice"));
  EXPECT_THAT(message_of<Error>([] {
                SafetensorsWriter({{"w", DType::f32, {INT64_MAX, 2}}});
              }),
              HasSubstr("tensor w: the size"));
  const SafetensorsWriter writer({{"w", DType::f32, {4}}});
  const std::vector<float> three(3);
  EXPECT_THAT(message_of<Error>([&] { writer.write_slice(folder / "m", "w", 2, three); }),
              HasSubstr("tensor w: elements 2 to 5 of 4"));
  EXPECT_THAT(message_of<Error>([&] { writer.write_slice(folder / "m", "v", 0, three); }), HasSubstr("no tensor v"));
  EXPECT_THAT(message_of<IoError>([&] { writer.write_slice(folder / "m", "w", 0, three); }), HasSubstr("m.tmp"));
}

}  // namespace
}  // namespace spillway::checkpoint
