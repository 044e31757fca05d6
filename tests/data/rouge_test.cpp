// SPDX-License-Identifier: Apache-2.0
#include "data/rouge.hpp"

#include <fstream>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "data/porter_stemmer.hpp"

namespace spillway::data {
namespace {

using ::testing::ElementsAre;

const nlohmann::json& reference() {
  static const nlohmann::json numbers = [] {
    std::ifstream file(SPILLWAY_TEST_REFERENCE "/rouge.json");
    return nlohmann::json::parse(file);
  }();
  return numbers;
}

TEST(PorterStem, GivesWhatNltkGives) {
  const auto& stems = reference().at("stems");
  ASSERT_GT(stems.size(), 100U);
  for (const auto& [word, stem] : stems.items()) EXPECT_EQ(porter_stem(word), stem.get<std::string>()) << word;
}

TEST(Rouge, IsThatOfRougeScore) {
  ASSERT_EQ(reference().at("pairs").size(), 15U);
  for (const auto& pair : reference().at("pairs")) {
    const Rouge found = rouge(pair.at("target").get<std::string>(), pair.at("prediction").get<std::string>());

    EXPECT_DOUBLE_EQ(found.rouge1, pair.at("rouge1").get<double>()) << pair;
    EXPECT_DOUBLE_EQ(found.rouge2, pair.at("rouge2").get<double>()) << pair;
    EXPECT_DOUBLE_EQ(found.rouge_l, pair.at("rougeL").get<double>()) << pair;
    EXPECT_DOUBLE_EQ(found.rouge_lsum, pair.at("rougeLsum").get<double>()) << pair;
  }
}

TEST(RougeTokens, AreLowerCaseRunsOfLettersAndDigits_LongOnesStemmed) {
  EXPECT_THAT(rouge_tokens("  The CATS' running-shoes, 2nd: was \xc3\xa9t\xc3\xa9 "),
              ElementsAre("the", "cat", "run", "shoe", "2nd", "was", "t"));
}

TEST(WithSentencesOnLines, BreaksAfterWhatEndsASentence) {
  EXPECT_EQ(with_sentences_on_lines("One ends. Two ends! \"Three?\" (Four.)  Five"),
            "One ends.\nTwo ends!\n\"Three?\"\n(Four.)\nFive");
}

TEST(WithSentencesOnLines, LeavesAbbreviationsInitialsAndNumbersWhole) {
  for (const char* whole : {"Mr. Smith left", "J. K. Row left", "It costs 3.5 euros", "No. 5 is alive.", "", "no end"})
    EXPECT_EQ(with_sentences_on_lines(whole), whole);
}

TEST(CorpusRouge, IsTheMeanOverPairsInPercent) {
  const Rouge found = corpus_rouge({"one two", "five"}, {"one two", "six"});

  EXPECT_DOUBLE_EQ(found.rouge1, 50.0);
  EXPECT_DOUBLE_EQ(found.rouge2, 50.0);
  EXPECT_DOUBLE_EQ(found.rouge_l, 50.0);
  EXPECT_DOUBLE_EQ(found.rouge_lsum, 50.0);
  EXPECT_DOUBLE_EQ(corpus_rouge({}, {}).rouge1, 0.0);
}

}  // namespace
}  // namespace spillway::data
