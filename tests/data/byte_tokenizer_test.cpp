// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/tokenizer.hpp"

namespace spillway::data {
namespace {

using testing::ElementsAre;

// The ids below are those of transformers' ByT5Tokenizer.
TEST(ByteTokenizer, Encode_GivesEachByteAndThree) {
  const auto tokenizer = make_byte_tokenizer();

  EXPECT_THAT(tokenizer->encode("aé "), ElementsAre(100, 198, 172, 35));
  EXPECT_TRUE(tokenizer->encode("").empty());
  EXPECT_EQ(tokenizer->vocabulary_size(), 384);
  EXPECT_EQ(tokenizer->pad_id(), 0);
  EXPECT_EQ(tokenizer->eos_id(), 1);
}

TEST(ByteTokenizer, Encode_TakesSpecialStringsAsOneToken) {
  const auto tokenizer = make_byte_tokenizer();

  EXPECT_THAT(tokenizer->encode("a<extra_id_0>b"), ElementsAre(100, 259, 101));
  EXPECT_THAT(tokenizer->encode("<extra_id_124></s><pad><unk>"), ElementsAre(383, 1, 0, 2));
  EXPECT_THAT(tokenizer->encode("<extra_id_125>").size(), 14U);
  EXPECT_THAT(tokenizer->encode("a \u00A0</s> b"), ElementsAre(100, 1, 101));
  EXPECT_THAT(tokenizer->encode("x <extra_id_3> y"), ElementsAre(123, 35, 262, 35, 124));
  EXPECT_THAT(tokenizer->encode("a <unk> <pad> "), ElementsAre(100, 2, 0));
}

TEST(ByteTokenizer, Decode_RestoresTextAndLeavesOutWhatIsNoByte) {
  const auto tokenizer = make_byte_tokenizer();
  std::vector<std::int32_t> ids = tokenizer->encode("Șapte „pisici” 😀");
  ids.insert(ids.end(), {1, 0, 0, 2, 259, 383, 5000, -1});

  EXPECT_EQ(tokenizer->decode(ids), "Șapte „pisici” 😀");
}

TEST(ByteTokenizer, Decode_OfBrokenSequence_IsValidUtf8) {
  const auto tokenizer = make_byte_tokenizer();

  EXPECT_EQ(tokenizer->decode(std::vector<std::int32_t>{3 + 0xC3, 3 + 0x41, 3 + 0xE2, 3 + 0x82}), "A");
}

}  // namespace
}  // namespace spillway::data
