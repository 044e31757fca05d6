// SPDX-License-Identifier: Apache-2.0
#include "data/bleu.hpp"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.hpp"

namespace spillway::data {
namespace {

struct Case {
  std::string name;
  std::vector<std::string> hypotheses;
  std::vector<std::string> references;
  double score;
  std::array<double, 4> precisions;
  double brevity_penalty;
  std::string text;
};

/// Expected values: sacreBLEU 2.6.0, BLEU().corpus_score(hypotheses, [references]).
const std::vector<Case> kCases = {
    {"SeveralSegments",
     {"The boat left the harbour at 7.30, with twelve sheep on board.", "She paid 1,200 lei for the old piano!",
      "Nobody knows who wrote the first letter &amp; why."},
     {"The boat left the harbour at 7.30 with ten sheep aboard.", "She paid 1,200 lei for that old piano.",
      "Nobody knows who wrote the first letter & why."},
     64.6862125681018,
     {81.81818181818181, 66.66666666666667, 59.25925925925926, 54.166666666666664},
     1.0,
     "= 64.69 81.8/66.7/59.3/54.2 (BP = 1.000 ratio = 1.065 hyp_len = 33 ref_len = 31)"},
    {"OneOrderSmoothed",
     {"a small red kite"},
     {"a small red balloon"},
     59.460355750136046,
     {75.0, 66.66666666666667, 50.0, 50.0},
     1.0,
     "= 59.46 75.0/66.7/50.0/50.0 (BP = 1.000 ratio = 1.000 hyp_len = 4 ref_len = 4)"},
    {"ThreeOrdersSmoothedAndShort",
     {"kite red sky blue now here"},
     {"the red kite in a blue sky today"},
     8.22487964923291,
     {66.66666666666667, 10.0, 6.25, 4.166666666666667},
     0.7165313105737893,
     "= 8.22 66.7/10.0/6.2/4.2 (BP = 0.717 ratio = 0.750 hyp_len = 6 ref_len = 8)"},
    {"TooShortForFourGrams",
     {"red kite"},
     {"a red kite"},
     0.0,
     {100.0, 100.0, 0.0, 0.0},
     0.6065306597126334,
     "= 0.00 100.0/100.0/0.0/0.0 (BP = 0.607 ratio = 0.667 hyp_len = 2 ref_len = 3)"},
    {"NoMatch",
     {"nothing alike"},
     {"something else entirely"},
     0.0,
     {0.0, 0.0, 0.0, 0.0},
     0.6065306597126334,
     "= 0.00 0.0/0.0/0.0/0.0 (BP = 0.607 ratio = 0.667 hyp_len = 2 ref_len = 3)"},
    {"EmptyHypothesis",
     {""},
     {"a red kite"},
     0.0,
     {0.0, 0.0, 0.0, 0.0},
     0.0,
     "= 0.00 0.0/0.0/0.0/0.0 (BP = 0.000 ratio = 0.000 hyp_len = 0 ref_len = 3)"},
    {"Identical",
     {"The red kite rose, slowly, above the hill."},
     {"The red kite rose, slowly, above the hill."},
     100.00000000000004,
     {100.0, 100.0, 100.0, 100.0},
     1.0,
     "= 100.00 100.0/100.0/100.0/100.0 (BP = 1.000 ratio = 1.000 hyp_len = 11 ref_len = 11)"},
    {"UnicodeWhiteSpace",
     {"o zi\u00A0frumoasă la mare, cu soare\u2003și vânt."},
     {"o zi frumoasă la mare, cu soare și vânt"},
     89.31539818068698,
     {90.9090909090909, 90.0, 88.88888888888889, 87.5},
     1.0,
     "= 89.32 90.9/90.0/88.9/87.5 (BP = 1.000 ratio = 1.100 hyp_len = 11 ref_len = 10)"},
    {"RepeatedWordsAreClipped",
     {"the the the the the the the"},
     {"the cat is on the mat"},
     7.809849842300637,
     {28.571428571428573, 8.333333333333334, 5.0, 3.125},
     1.0,
     "= 7.81 28.6/8.3/5.0/3.1 (BP = 1.000 ratio = 1.167 hyp_len = 7 ref_len = 6)"}};

class CorpusBleu : public testing::TestWithParam<Case> {};

TEST_P(CorpusBleu, IsWhatSacrebleuPrints) {
  const Case& expected = GetParam();

  const Bleu bleu = corpus_bleu(expected.hypotheses, expected.references);

  EXPECT_DOUBLE_EQ(bleu.score, expected.score);
  for (std::size_t n = 0; n < 4; ++n) EXPECT_DOUBLE_EQ(bleu.precisions[n], expected.precisions[n]) << n + 1 << "-grams";
  EXPECT_DOUBLE_EQ(bleu.brevity_penalty, expected.brevity_penalty);
  EXPECT_EQ(bleu.text(), "BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0 " + expected.text);
}

INSTANTIATE_TEST_SUITE_P(Cases, CorpusBleu, testing::ValuesIn(kCases),
                         [](const auto& parameters) { return parameters.param.name; });

TEST(CorpusBleuInput, OfDifferentNumbersOfSegments_IsRefused) {
  const std::vector<std::string> two{"a", "b"};
  const std::vector<std::string> one{"a"};

  EXPECT_THROW((void)corpus_bleu(two, one), Error);
}

TEST(CorpusBleuInput, OfTrailingLineEnd_IgnoresItBeforeTokenizing) {
  const std::vector<std::string> hypotheses{"one two three four-\n"};
  const std::vector<std::string> references{"one two three four-"};

  EXPECT_DOUBLE_EQ(corpus_bleu(hypotheses, references).score, 100.00000000000004);
}

}  // namespace
}  // namespace spillway::data
