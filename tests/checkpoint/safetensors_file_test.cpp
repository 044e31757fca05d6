// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors_file.hpp"

#include <cstring>

#include <gmock/gmock.h>
#include <unistd.h>

#include "checkpoint/fixtures.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::string with_length(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + header + data;
}

struct Hostile {
  const char* name;
  std::string bytes;
  const char* message;
};

void PrintTo(const Hostile& hostile, std::ostream* out) { *out << hostile.name; }

class HostileSafetensors : public testing::TestWithParam<Hostile> {};

TEST_P(HostileSafetensors, IsRefusedNamingFileAndReason) {
  const ScratchFolder folder;
  const std::string path = folder / "model.safetensors";
  write_text_durably(path, GetParam().bytes);

  const std::string message = message_of<DataError>([&] { SafetensorsFile{path}; });

  EXPECT_THAT(message, AllOf(HasSubstr(path), HasSubstr(GetParam().message)));
}

Hostile header(const char* name, const std::string& text, const char* message) {
  return {name, with_length(text, std::string(16, 'x')), message};
}

Hostile tensor(const char* name, const std::string& entry, const char* message) {
  return header(name, R"({"w":)" + entry + "}", message);
}

INSTANTIATE_TEST_SUITE_P(
    Files, HostileSafetensors,
    testing::Values(
        Hostile{"empty", "", "0 bytes are too few"}, Hostile{"short", "1234567", "7 bytes are too few"},
        Hostile{"huge_header", std::string(8, '\xff') + "{}",
                "a header of 18446744073709551615 bytes, at most 100000000"},
        Hostile{"header_beyond_limit", std::string("\x01\xe1\xf5\x05\0\0\0\0", 8) + "{}",
                "a header of 100000001 bytes"},
        Hostile{"header_beyond_file", std::string("\x03\0\0\0\0\0\0\0", 8) + "{}",
                "a header of 3 bytes in a file of 10: it is truncated"},
        header("no_brace", R"( {"w":1})", "does not start with {"), header("no_header", "", "does not start with {"),
        header("no_json", R"({"w":)", "not valid JSON"), header("bad_utf8", "{\"\xff\":1}", "not valid JSON"),
        header("rubbish_after", R"({} x)", "not valid JSON"),
        header("twice",
               R"({"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},)"
               R"("w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
               "has \"w\" twice"),
        tensor("field_twice", R"({"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]})",
               "has \"dtype\" twice"),
        tensor("too_deep", R"({"dtype":"F32","shape":[[[[4]]]],"data_offsets":[0,16]})", "nests deeper"),
        header("metadata_no_strings",
               R"({"__metadata__":{"format":1},"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
               "__metadata__"),
        header("metadata_no_object", R"({"__metadata__":"pt","w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
               "__metadata__"),
        tensor("no_object", "1", "tensor w: expected an object"),
        tensor("no_shape", R"({"dtype":"F32","data_offsets":[0,16]})", "tensor w: expected an object"),
        tensor("unknown_dtype", R"({"dtype":"F33","shape":[4],"data_offsets":[0,16]})",
               "tensor w: dtype F33 is not known"),
        tensor("dtype_no_text", R"({"dtype":32,"shape":[4],"data_offsets":[0,16]})", "tensor w: "),
        tensor("shape_no_list", R"({"dtype":"F32","shape":4,"data_offsets":[0,16]})", "tensor w: shape 4 is no list"),
        tensor("negative_extent", R"({"dtype":"F32","shape":[-4],"data_offsets":[0,16]})",
               "tensor w: -4 is no whole number"),
        tensor("fraction", R"({"dtype":"F32","shape":[4.0],"data_offsets":[0,16]})",
               "tensor w: 4.0 is no whole number"),
        tensor("product_overflows", R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,16]})",
               "tensor w: the size of shape"),
        tensor("bytes_overflow", R"({"dtype":"F32","shape":[4611686018427387908],"data_offsets":[0,16]})",
               "tensor w: the size of shape"),
        tensor("too_large_number", R"({"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,16]})",
               "tensor w: "),
        tensor("one_offset", R"({"dtype":"F32","shape":[4],"data_offsets":[16]})",
               "tensor w: data_offsets [16] is no pair"),
        tensor("negative_offset", R"({"dtype":"F32","shape":[4],"data_offsets":[-16,0]})",
               "tensor w: -16 is no whole number"),
        tensor("backwards", R"({"dtype":"F32","shape":[4],"data_offsets":[16,0]})",
               "tensor w: data_offsets 16 to 0 do not lie in the 16 bytes"),
        tensor("beyond_file", R"({"dtype":"F32","shape":[5],"data_offsets":[0,20]})",
               "tensor w: data_offsets 0 to 20 do not lie in the 16 bytes"),
        tensor("far_beyond_file",
               R"({"dtype":"F32","shape":[4],"data_offsets":[18446744073709551600,18446744073709551615]})",
               "tensor w: data_offsets"),
        tensor("wrong_size", R"({"dtype":"F32","shape":[3],"data_offsets":[0,16]})",
               "tensor w: data_offsets 0 to 16 hold 16 bytes, expected 12"),
        tensor("does_not_cover", R"({"dtype":"F32","shape":[3],"data_offsets":[0,12]})", "the tensors end at byte"),
        header("overlap",
               R"({"v":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},)"
               R"("w":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
               "tensor w: starts at byte 8, expected 12: tensors overlap"),
        header("hole",
               R"({"v":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
               R"("w":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
               "tensor w: starts at byte 8, expected 4: tensors leave a hole"),
        header("all_the_same_bytes",
               R"({"v":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},)"
               R"("w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
               "tensors overlap")),
    [](const auto& hostile) { return hostile.param.name; });

/// b (2, 2) f32, a (3) bf16, h (2) f16, i (1) i64, e (0, 5) f32, s () f32
class SafetensorsFileTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string text = R"({"__metadata__":{"format":"pt"},"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
                             R"("b":{"dtype":"F32","shape":[2,2],"data_offsets":[8,24]},)"
                             R"("e":{"dtype":"F32","shape":[0,5],"data_offsets":[24,24]},)"
                             R"("s":{"dtype":"F32","shape":[],"data_offsets":[24,28]},)"
                             R"("a":{"dtype":"BF16","shape":[3],"data_offsets":[28,34]},)"
                             R"("h":{"dtype":"F16","shape":[2],"data_offsets":[34,38]}}   )";
    std::string data(8, '\1');
    for (const float value : {1.0F, 2.0F, 3.0F, 4.0F, 5.0F})
      data.append(reinterpret_cast<const char*>(&value), sizeof(value));
    for (const std::uint16_t bits : {0x3F80, 0xC000, 0x3FC0, 0x3C00, 0xC100})
      data.append(reinterpret_cast<const char*>(&bits), sizeof(bits));
    write_text_durably(path_, with_length(text, data));
  }

  ScratchFolder folder_;
  std::string path_ = folder_ / "model.safetensors";
};

TEST_F(SafetensorsFileTest, GivesSlicesOfEveryFloatTypeAsFp32) {
  const SafetensorsFile file(path_);
  std::vector<float> two(2);

  file.read("b", 1, two);
  EXPECT_THAT(two, ElementsAre(2.0F, 3.0F));
  file.read("a", 1, two);
  EXPECT_THAT(two, ElementsAre(-2.0F, 1.5F));
  file.read("h", 0, two);
  EXPECT_THAT(two, ElementsAre(1.0F, -2.5F));
  file.read("s", 0, std::span(two).first(1));
  EXPECT_EQ(two[0], 5.0F);
  file.read("e", 0, {});
}

TEST_F(SafetensorsFileTest, ListsWhatItHolds) {
  const SafetensorsFile file(path_);

  EXPECT_EQ(file.tensors().size(), 6U);
  ASSERT_NE(file.find("b"), nullptr);
  EXPECT_THAT(file.find("b")->shape, ElementsAre(2, 2));
  EXPECT_EQ(file.find("b")->dtype, "F32");
  EXPECT_EQ(file.find("c"), nullptr);
  EXPECT_EQ(file.metadata().at("format"), "pt");
}

TEST_F(SafetensorsFileTest, AnotherDtypeIsRefusedOnlyWhenItIsRead) {
  const SafetensorsFile file(path_);
  std::vector<float> one(1);

  EXPECT_THAT(message_of<DataError>([&] { file.read("i", 0, one); }),
              AllOf(HasSubstr(path_), HasSubstr("tensor i: dtype I64, expected F64, F32")));
}

TEST_F(SafetensorsFileTest, ARangeOrNameThatIsNotThereIsRefused) {
  const SafetensorsFile file(path_);
  std::vector<float> three(3);

  EXPECT_THAT(message_of<DataError>([&] { file.read("b", 2, three); }), HasSubstr("tensor b: elements 2 to 5 of 4"));
  EXPECT_THAT(message_of<DataError>([&] { file.read("b", -1, three); }), HasSubstr("tensor b: elements -1 to 2 of 4"));
  EXPECT_THAT(message_of<DataError>([&] { file.read("c", 0, three); }), HasSubstr("no tensor c"));
}

TEST_F(SafetensorsFileTest, EveryTruncationIsRefused) {
  const std::uint64_t whole = size_of_file(path_);
  for (std::size_t size = whole; size-- > 0;) {
    ASSERT_EQ(::truncate(path_.c_str(), static_cast<off_t>(size)), 0);
    ASSERT_THAT(message_of<DataError>([&] { SafetensorsFile{path_}; }), HasSubstr(path_)) << size;
  }
}

TEST(SafetensorsFile, AFileThatIsNotThereIsNamed) {
  EXPECT_THAT(message_of<DataError>([] { SafetensorsFile{"/nowhere/model.safetensors"}; }),
              HasSubstr("/nowhere/model.safetensors"));
}

}  // namespace
}  // namespace spillway::checkpoint
