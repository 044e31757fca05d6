// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/torch_file.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include "checkpoint/fixtures.hpp"
#include "checkpoint/pickle.hpp"
#include "checkpoint/torch_bytes.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint::test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<float> all_of(const WeightReader& file, const std::string& name) {
  std::vector<float> values(static_cast<std::size_t>(file.find(name)->elements()));
  file.read(name, 0, values);
  return values;
}

/// Files that torch itself wrote: tests/reference/make.py.
class FileOfTorch : public ::testing::TestWithParam<const char*> {
 protected:
  const TorchFile file{std::string(SPILLWAY_TEST_REFERENCE) + "/torch/" + GetParam()};
  /// Element i of the float tensors.
  static float value(int i) { return static_cast<float>(i) / 4.0F - 1.0F; }
};

TEST_P(FileOfTorch, GivesEveryTensorAsFp32) {
  std::vector<float> whole, transposed;
  for (int i = 0; i < 12; ++i) whole.push_back(value(i));
  for (int i = 0; i < 12; ++i) transposed.push_back(value(i % 3 * 4 + i / 3));

  EXPECT_EQ(file.tensors().size(), 11U);
  EXPECT_EQ(all_of(file, "a"), whole);
  EXPECT_EQ(all_of(file, "alias"), whole);
  EXPECT_THAT(file.find("transposed")->shape, ElementsAre(4, 3));
  EXPECT_EQ(all_of(file, "transposed"), transposed);
  EXPECT_THAT(all_of(file, "row"), ElementsAre(0.0F, 0.25F, 0.5F, 0.75F));
  EXPECT_THAT(all_of(file, "parameter"), ElementsAre(-1.0F, -0.75F, 0.0F, 0.25F, 1.0F, 1.25F));
  for (const char* name : {"half", "bfloat", "double"})
    EXPECT_THAT(all_of(file, name), ElementsAre(-1.0F, -0.75F, -0.5F, -0.25F)) << name;
  EXPECT_EQ(file.find("bfloat")->dtype, "BF16");
  EXPECT_THAT(all_of(file, "scalar"), ElementsAre(2.5F));
  EXPECT_THAT(file.find("empty")->shape, ElementsAre(0, 4));
  EXPECT_TRUE(all_of(file, "empty").empty());
}

TEST_P(FileOfTorch, GivesSlices_AlsoOfATransposedMatrix) {
  const std::vector<float> whole = all_of(file, "transposed");
  for (std::size_t begin = 0; begin < whole.size(); ++begin)
    for (std::size_t end = begin; end <= whole.size(); ++end) {
      std::vector<float> part(end - begin);
      file.read("transposed", static_cast<std::int64_t>(begin), part);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + static_cast<std::ptrdiff_t>(begin)));
    }
  std::vector<float> two(2);
  file.read("a", 5, two);
  EXPECT_THAT(two, ElementsAre(value(5), value(6)));
}

TEST_P(FileOfTorch, KnowsTensorsThatAreOne) {
  EXPECT_TRUE(file.same_storage("a", "alias"));
  EXPECT_FALSE(file.same_storage("a", "transposed"));
  EXPECT_FALSE(file.same_storage("a", "parameter"));
}

TEST_P(FileOfTorch, RefusesWhatIsNotThereOrNoFloat) {
  std::vector<float> two(2);

  EXPECT_THAT(message_of<DataError>([&] { file.read("b", 0, two); }), HasSubstr("no tensor b"));
  EXPECT_THAT(message_of<DataError>([&] { file.read("a", 11, two); }), HasSubstr("tensor a: elements 11 to 13 of 12"));
  EXPECT_THAT(message_of<DataError>([&] { file.read("a", -1, two); }), HasSubstr("tensor a: elements -1 to 1 of 12"));
  EXPECT_THAT(message_of<DataError>([&] { file.read("integers", 0, two); }), HasSubstr("tensor integers: dtype I64"));
}

INSTANTIATE_TEST_SUITE_P(Forms, FileOfTorch,
                         ::testing::Values("zip_1.13.bin", "legacy_1.13.bin", "zip_2.11.bin", "legacy_2.11.bin"),
                         [](const auto& form) {
                           std::string name = form.param;
                           std::ranges::replace(name, '.', '_');
                           return name;
                         });

std::string floats(int count) {
  std::string data;
  for (int i = 0; i < count; ++i) data += bytes_of(static_cast<float>(i));
  return data;
}

std::string with_tensor(const TensorText& tensor) {
  return torch_zip(pickle_of(pickle_dict({{"w", pickle_tensor(tensor)}})), {floats(4)});
}

std::string with_value(const std::string& value) {
  return torch_zip(pickle_of(pickle_dict({{"w", value}})), {floats(4)});
}

const std::string kGood = pickle_of(pickle_dict({{"w", pickle_tensor({})}}));

struct Hostile {
  const char* name;
  std::string bytes;
  const char* message;
};
void PrintTo(const Hostile& hostile, std::ostream* out) { *out << hostile.name; }

class TorchFileOfBytes : public ::testing::TestWithParam<Hostile> {
 protected:
  const ScratchFolder folder_;
  const std::string path_ = folder_ / "pytorch_model.bin";
};

TEST_P(TorchFileOfBytes, Hostile_IsRefusedNamingFileAndReason) {
  write_text_durably(path_, GetParam().bytes);

  EXPECT_THAT(message_of<DataError>([&] { TorchFile{path_}; }), AllOf(HasSubstr(path_), HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Tensors, TorchFileOfBytes,
    ::testing::Values(
        Hostile{"code",
                torch_zip(pickle_of(pickle_global("os", "system") + pickle_tuple({pickle_text("true")}) + "R"), {}),
                "it names os.system"},
        Hostile{"no_dict", torch_zip(pickle_of("]"), {}), "expected a dict of tensors"},
        Hostile{"no_name", torch_zip(pickle_of("}(K\1Nu"), {}), "a key of the state dict is no name"},
        Hostile{"no_tensor", with_value("N"), "tensor w: expected a tensor"},
        Hostile{"dict_of_itself", torch_zip(pickle_of("}q\1(" + pickle_text("w") + "h\1u"), {}),
                "tensor w: expected a tensor"},
        Hostile{"twice",
                torch_zip(pickle_of(pickle_dict({{"w", pickle_tensor({})}, {"w", pickle_tensor({})}})), {floats(4)}),
                "tensor w is there twice"},
        Hostile{"no_storage", with_tensor({.key = "1"}), "tensor w: there is no storage 1"},
        Hostile{"storage_outside_the_folder", with_tensor({.key = "../data.pkl"}), "there is no storage ../data.pkl"},
        Hostile{"long_key", with_tensor({.key = std::string(65, '0')}), "tensor w: a key of 65 bytes"},
        Hostile{"no_type_of_storage", with_tensor({.type = "LongTensor"}), "it names torch.LongTensor"},
        Hostile{"larger_storage", with_tensor({.storage_elements = 5}),
                "storage 0 has 16 bytes, expected 5 elements of F32"},
        Hostile{"smaller_storage", with_tensor({.storage_elements = 3}), "storage 0 has 16 bytes, expected 3 elements"},
        Hostile{"other_type", with_tensor({.type = "DoubleStorage"}),
                "storage 0 has 16 bytes, expected 4 elements of F64"},
        Hostile{"negative_storage", with_tensor({.storage_elements = -4}), "storage 0 has 16 bytes"},
        Hostile{"beyond_the_storage", with_tensor({.offset = 1}), "it ends at element 5 of storage 0, which has 4"},
        Hostile{"negative_offset", with_tensor({.offset = -1}), "make no tensor"},
        Hostile{"negative_extent", with_tensor({.shape = {-2, 2}}), "make no tensor"},
        Hostile{"negative_stride", with_tensor({.offset = 2, .strides = {-2, 1}}), "make no tensor"},
        Hostile{"too_few_strides", with_tensor({.strides = {1}}), "make no tensor"},
        Hostile{"overflow",
                with_tensor({.shape = {INT32_MAX, INT32_MAX, INT32_MAX}, .strides = {INT32_MAX, INT32_MAX, INT32_MAX}}),
                "make no tensor"},
        Hostile{"stride_bomb", with_tensor({.shape = {INT32_MAX}, .strides = {0}}),
                "is neither contiguous nor transposed"},
        Hostile{"many_axes", with_tensor({.shape = std::vector<std::int32_t>(9, 1)}), "9 axes"},
        Hostile{"gaps", with_tensor({.shape = {2, 1, 1}, .strides = {3, 1, 1}}), "strides (3, 1, 1)"},
        Hostile{"wide_rows", with_tensor({.shape = {2}, .strides = {3}}), "is neither contiguous nor transposed"}),
    [](const auto& hostile) { return hostile.param.name; });

std::vector<ZipText> entries() {
  return {{.name = "archive/data.pkl", .data = kGood}, {.name = "archive/data/0", .data = floats(4)}};
}

template <typename Change>
std::string changed(const Change& change) {
  std::vector<ZipText> all = entries();
  change(all);
  return zip_of(all);
}

std::string with_byte(std::string bytes, std::string_view at, std::size_t offset, char value) {
  bytes[bytes.rfind(at) + offset] = value;
  return bytes;
}

INSTANTIATE_TEST_SUITE_P(
    Archives, TorchFileOfBytes,
    ::testing::Values(
        Hostile{"compressed", changed([](auto& all) { all[1].method = 8; }), "entry archive/data/0 is compressed"},
        Hostile{"encrypted", changed([](auto& all) { all[1].flags = 1; }),
                "entry archive/data/0 is compressed or encrypted"},
        Hostile{"bomb", changed([](auto& all) {
                  all[1].method = 8;
                  all[1].bytes = INT64_C(4000000000);
                }),
                "is compressed"},
        Hostile{"size_that_lies", changed([](auto& all) { all[1].bytes = 4000; }),
                "entry archive/data/0: 16 bytes stored for 4000"},
        Hostile{"sizes_that_lie", changed([](auto& all) { all[1].bytes = all[1].stored_bytes = 4000000; }),
                "entry archive/data/0: 4000000 bytes at"},
        Hostile{"overlap", changed([](auto& all) {
                  all[0].bytes = all[0].stored_bytes = static_cast<std::int64_t>(kGood.size() + 1);
                }),
                "entries overlap at byte"},
        Hostile{"header_of_another", changed([](auto& all) { all[1].header = 0; }),
                "entry archive/data/0: there is no header of it"},
        Hostile{"header_outside", changed([](auto& all) { all[1].header = 4000000000; }),
                "bytes at 4000000000 of a file of"},
        Hostile{"twice_in_the_archive", changed([](auto& all) { all.push_back(all[1]); }),
                "entry archive/data/0 is there twice"},
        Hostile{"no_pickle", changed([](auto& all) { all[0].name = "archive/other"; }), "there is no data.pkl"},
        Hostile{"big_endian", changed([](auto& all) { all.push_back({.name = "archive/byteorder", .data = "big"}); }),
                "not little-endian"},
        Hostile{"large_pickle", changed([](auto& all) { all[0].data = std::string(kMaxPickleBytes + 1, 'N'); }),
                "archive/data.pkl has 16777217 bytes"},
        Hostile{"more_entries", with_byte(zip_of(entries()), "PK\5\6", 10, 9),
                "the directory of the archive is truncated"},
        Hostile{"directory_outside", with_byte(zip_of(entries()), "PK\5\6", 19, 9), "it is truncated or damaged"},
        Hostile{"directory_bomb", with_byte(zip_of(entries()), "PK\5\6", 15, 9), "at most 16777216 are allowed"},
        Hostile{"no_zip64", with_byte(zip64_of(entries()), "PK\6\7", 0, 'X'), "no zip64 directory"},
        Hostile{"no_zip64_end", with_byte(zip64_of(entries()), "PK\6\6", 0, 'X'), "no zip64 directory"},
        Hostile{"zip64_outside", with_byte(zip64_of(entries()), "PK\6\7", 15, 127), "it is truncated or damaged"},
        Hostile{"no_archive", "PK and nothing else, but long enough", "the archive has no directory"},
        Hostile{"other_file", "{}", "it is no file of torch.save"},
        Hostile{"empty", "", "it is no file of torch.save"}),
    [](const auto& hostile) { return hostile.param.name; });

std::string legacy(const std::vector<LegacyStorage>& storages, const TensorText& tensor = {}) {
  return torch_legacy(pickle_of(pickle_dict({{"w", pickle_tensor(tensor)}})), storages);
}

INSTANTIATE_TEST_SUITE_P(
    Streams, TorchFileOfBytes,
    ::testing::Values(
        Hostile{"code_in_a_stream", torch_legacy(pickle_of(pickle_global("os", "system")), {}), "it names os.system"},
        Hostile{"storage_missing", legacy({}), "tensor w: there is no storage 0"},
        Hostile{"storage_of_nobody", legacy({{"0", 4, floats(4)}, {"1", 4, floats(4)}}),
                "no tensor uses storage \"1\""},
        Hostile{"storage_twice", legacy({{"0", 4, floats(4)}, {"0", 4, floats(4)}}), "storage 0 is there twice"},
        Hostile{"elements_that_lie", legacy({{"0", INT64_MAX, floats(4)}}), "storage 0: 9223372036854775807 elements"},
        Hostile{"negative_elements", legacy({{"0", -1, floats(4)}}), "storage 0: -1 elements"},
        Hostile{"fewer_elements", legacy({{"0", 3, floats(3)}}), "tensor w: storage 0 has 12 bytes"},
        Hostile{"more_bytes", legacy({{"0", 4, floats(5)}}), "the storages end at byte"},
        Hostile{"two_types",
                torch_legacy(pickle_of(pickle_dict({{"v", pickle_tensor({})},
                                                    {"w", pickle_tensor({.type = "HalfStorage"})}})),
                             {{"0", 4, floats(4)}}),
                "tensor w: storage 0 has two types"},
        Hostile{
            "other_machine",
            with_byte(legacy({{"0", 4, floats(4)}}), "little_endian", std::string_view("little_endian").size(), '\x89'),
            "not little-endian"}),
    [](const auto& hostile) { return hostile.param.name; });

class TorchFileTest : public ::testing::Test {
 protected:
  const ScratchFolder folder_;
  const std::string path_ = folder_ / "pytorch_model.bin";
};

/// An archive whose last record, which ends with the number of the comment's bytes, has a comment.
std::string with_comment(const std::string& comment) {
  const std::string zip = zip_of(entries());
  return zip.substr(0, zip.size() - 2) + bytes_of(static_cast<std::uint16_t>(comment.size())) + comment;
}

TEST_F(TorchFileTest, AnEmptyTensor_OfWhateverExtents_IsRead) {
  const std::vector<std::int32_t> shape = {0, INT32_MAX, INT32_MAX, INT32_MAX};  // their product overflows
  write_text_durably(path_, with_tensor({.shape = shape, .strides = {0, 0, 0, 0}}));

  const TorchFile file(path_);

  EXPECT_THAT(file.find("w")->shape, ElementsAre(0, INT32_MAX, INT32_MAX, INT32_MAX));
  EXPECT_TRUE(all_of(file, "w").empty());
}

TEST_F(TorchFileTest, EveryFormMadeByHand_IsRead) {
  // What the hostile files above are variations of.
  for (const std::string& bytes :
       {zip_of(entries()), zip64_of(entries()), with_comment("made by hand"),
        with_comment(std::string(UINT16_MAX, '.')), with_comment("PK\5\6 and more than the 22 bytes of an end"),
        legacy({{"0", 4, floats(4)}})}) {
    write_text_durably(path_, bytes);
    EXPECT_THAT(all_of(TorchFile(path_), "w"), ElementsAre(0.0F, 1.0F, 2.0F, 3.0F));
  }
}

TEST_F(TorchFileTest, EveryTruncation_IsRefused) {
  for (const std::string& bytes : {zip_of(entries()), zip64_of(entries()), legacy({{"0", 4, floats(4)}})}) {
    write_text_durably(path_, bytes);
    for (std::size_t size = bytes.size(); size-- > 0;) {
      ASSERT_EQ(::truncate(path_.c_str(), static_cast<off_t>(size)), 0);
      ASSERT_THAT(message_of<DataError>([&] { TorchFile{path_}; }), HasSubstr(path_)) << size;
    }
  }
}

TEST_F(TorchFileTest, ATransposedMatrixOfManyRows_IsReadInPieces) {
  constexpr int kRows = 5000, kColumns = 3;
  write_text_durably(path_, torch_zip(pickle_of(pickle_dict({{"w", pickle_tensor({.storage_elements = kRows * kColumns,
                                                                                  .shape = {kRows, kColumns},
                                                                                  .strides = {1, kRows}})}})),
                                      {floats(kRows * kColumns)}));
  const TorchFile file(path_);

  const std::vector<float> values = all_of(file, "w");

  for (int row = 0; row < kRows; ++row)
    for (int column = 0; column < kColumns; ++column)
      ASSERT_EQ(values[static_cast<std::size_t>(row * kColumns + column)], static_cast<float>(column * kRows + row));
}

}  // namespace
}  // namespace spillway::checkpoint::test
