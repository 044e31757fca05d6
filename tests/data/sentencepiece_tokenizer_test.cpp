// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <unordered_map>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include "core/error.hpp"
#include "data/text_folder.hpp"
#include "data/tokenizer.hpp"

namespace spillway::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class OwnSentences : public sentencepiece::SentenceIterator {
 public:
  bool done() const override { return next_ == sentences_.size(); }
  void Next() override { ++next_; }
  const std::string& value() const override { return sentences_[next_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  std::vector<std::string> sentences_ = {
      "the boat left the harbour at seven", "seven sheep were on the boat",  "the sheep left the boat in the harbour",
      "a red kite rose above the harbour",  "she sold the kite for a sheep", "nobody left the harbour with a kite"};
  std::size_t next_ = 0;
};

/// A model with T5's special ids, trained on the sentences above; `changes` overrides the trainer's options.
std::string train_model(const TextFolder& folder, const std::unordered_map<std::string, std::string>& changes = {}) {
  std::unordered_map<std::string, std::string> options = {
      {"vocab_size", "60"}, {"hard_vocab_limit", "false"}, {"pad_id", "0"}, {"eos_id", "1"}, {"unk_id", "2"},
      {"bos_id", "-1"},     {"minloglevel", "4"}};
  for (const auto& [key, value] : changes) options[key] = value;
  OwnSentences sentences;
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &sentences, &model);
  if (!status.ok()) throw std::runtime_error(status.ToString());
  return folder.write("spiece.model", model);
}

class SentencePieceTokenizerTest : public testing::Test {
 protected:
  SentencePieceTokenizerTest() { EXPECT_TRUE(raw_.Load(path_).ok()); }

  std::vector<std::int32_t> raw_ids(const std::string& text) const { return raw_.EncodeAsIds(text); }

  TextFolder folder_;
  std::string path_ = train_model(folder_);
  sentencepiece::SentencePieceProcessor raw_;
  std::unique_ptr<Tokenizer> tokenizer_ = make_sentencepiece_tokenizer(path_);
};

TEST_F(SentencePieceTokenizerTest, Encode_GivesSentencePiecesOwnIds) {
  const std::vector<std::string> texts = {"the sheep left", "  two  spaces ",     "A kite, 7.30!",
                                          "ﬁ ½ Ș",          "<extra_id_100> <b>", ""};
  for (const std::string& text : texts) {
    EXPECT_EQ(tokenizer_->encode(text), raw_ids(text)) << text;
  }
  EXPECT_GT(tokenizer_->encode("the sheep left").size(), 2U);
}

TEST_F(SentencePieceTokenizerTest, VocabularySize_CountsTheSentinels) {
  EXPECT_EQ(tokenizer_->vocabulary_size(), raw_.GetPieceSize() + 100);
  EXPECT_EQ(make_sentencepiece_tokenizer(path_, 0)->vocabulary_size(), raw_.GetPieceSize());
  EXPECT_EQ(tokenizer_->pad_id(), 0);
  EXPECT_EQ(tokenizer_->eos_id(), 1);
}

TEST_F(SentencePieceTokenizerTest, Encode_TakesSpecialStringsAsOneTokenAndTheRestByItself) {
  const auto size = static_cast<std::int32_t>(tokenizer_->vocabulary_size());
  std::vector<std::int32_t> expected = raw_ids("the ");
  expected.push_back(size - 1);
  for (const auto id : raw_ids(" sheep")) expected.push_back(id);
  expected.push_back(size - 100);

  EXPECT_EQ(tokenizer_->encode("the <extra_id_0> sheep<extra_id_99>"), expected);
  EXPECT_THAT(tokenizer_->encode("<pad> </s><unk>"), ElementsAre(0, 1, 2));
}

TEST_F(SentencePieceTokenizerTest, Encode_WithoutSentinels_TakesTheirTextAsText) {
  const auto tokenizer = make_sentencepiece_tokenizer(path_, 0);

  EXPECT_EQ(tokenizer->encode("<extra_id_0>"), raw_ids("<extra_id_0>"));
}

TEST_F(SentencePieceTokenizerTest, Decode_RestoresTextWithoutSpecialTokens) {
  std::vector<std::int32_t> ids = {0};
  for (const auto id : raw_ids("seven sheep")) ids.push_back(id);
  const auto size = static_cast<std::int32_t>(tokenizer_->vocabulary_size());
  ids.push_back(size - 1);
  for (const auto id : raw_ids("rose")) ids.push_back(id);
  ids.insert(ids.end(), {1, 0, 0, size + 20, -1});

  EXPECT_EQ(tokenizer_->decode(ids), "seven sheep rose");
  EXPECT_EQ(tokenizer_->decode({}), "");
}

TEST_F(SentencePieceTokenizerTest, Decode_LeavesOutUnknown) {
  std::vector<std::int32_t> ids = raw_ids("the");
  ids.push_back(2);

  EXPECT_EQ(tokenizer_->decode(ids), "the");
}

TEST(SentencePieceTokenizer, Make_OfModelWithSentinelPieces_AddsNone) {
  const TextFolder folder;
  const std::string path = train_model(folder, {{"user_defined_symbols", "▁<extra_id_1>,▁<extra_id_0>"}});
  sentencepiece::SentencePieceProcessor raw;
  ASSERT_TRUE(raw.Load(path).ok());

  const auto tokenizer = make_sentencepiece_tokenizer(path);

  EXPECT_EQ(tokenizer->vocabulary_size(), raw.GetPieceSize());
  EXPECT_THAT(tokenizer->encode("<extra_id_0>"), ElementsAre(raw.PieceToId("▁<extra_id_0>")));
}

TEST(SentencePieceTokenizer, Make_OfFileThatIsNoModel_NamesIt) {
  const TextFolder folder;
  const std::string missing = folder.file("missing.model");
  const std::string broken = folder.write("broken.model", "this is not a model");
  const std::string empty = folder.write("empty.model", "");

  EXPECT_THAT(message_of<DataError>([&] { (void)make_sentencepiece_tokenizer(missing); }),
              testing::AllOf(HasSubstr(missing), HasSubstr("No such file")));
  EXPECT_THAT(message_of<DataError>([&] { (void)make_sentencepiece_tokenizer(broken); }), HasSubstr(broken));
  EXPECT_THAT(message_of<DataError>([&] { (void)make_sentencepiece_tokenizer(empty); }), HasSubstr(empty));
}

TEST(SentencePieceTokenizer, Make_OfModelWithoutPadding_SaysHowToTrainOne) {
  const TextFolder folder;
  const std::string path = train_model(folder, {{"pad_id", "-1"}, {"unk_id", "0"}});

  EXPECT_THAT(message_of<DataError>([&] { (void)make_sentencepiece_tokenizer(path); }),
              testing::AllOf(HasSubstr(path), HasSubstr("their ids here are -1 and 1"), HasSubstr("--pad_id=0")));
}

}  // namespace
}  // namespace spillway::data
