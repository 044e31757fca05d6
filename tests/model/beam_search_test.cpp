// SPDX-License-Identifier: Apache-2.0
#include "model/beam_search.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include <gmock/gmock.h>

#include "core/device.hpp"
#include "kernels/cpu/cpu_kernels.hpp"

namespace spillway::model {
namespace {

using ::testing::ElementsAre;

constexpr std::int32_t kStart = 0;
constexpr std::int32_t kEnd = 1;
constexpr std::int32_t kPad = 9;

/// The op of the CPU in memory of its own.
class BeamSearch {
 public:
  BeamSearch(std::int64_t items, GenerationOptions options, std::int32_t start, std::int32_t end, std::int32_t pad)
      : items_(items), options_(options), end_(end), pad_(pad) {
    Carver counted;
    (void)carve_beams(counted, items, options);
    bytes_.assign(counted.bytes(), std::byte{0xFF});
    start_beams(memory(), options, start);
    if (items == 0) advance({}, {}, {});
  }
  [[nodiscard]] std::int64_t candidates() { return memory().top_scores.extent(1); }
  [[nodiscard]] std::int64_t length() { return memory().state.clock.as<std::int32_t>()[0] + 1; }
  [[nodiscard]] bool done() { return memory().stop.as<std::int32_t>()[0] != 0; }
  [[nodiscard]] std::vector<std::int32_t> next_tokens() { return copied<std::int32_t>(memory().state.tokens); }
  [[nodiscard]] std::vector<std::int32_t> parents() { return copied<std::int32_t>(memory().state.parents); }
  [[nodiscard]] std::vector<float> row_scores() { return copied<float>(memory().state.row_scores); }
  void advance(const std::vector<float>& scores, const std::vector<std::int32_t>& rows,
               const std::vector<std::int32_t>& tokens) {
    const BeamMemory m = memory();
    std::ranges::copy(scores, m.top_scores.as<float>().begin());
    std::ranges::copy(rows, m.top_rows.as<std::int32_t>().begin());
    std::ranges::copy(tokens, m.top_tokens.as<std::int32_t>().begin());
    const auto ops = kernels::cpu::make_generation_ops(kernels::cpu::make_thread_pool(1));
    ops->advance_beams(*make_host_device()->create_compute_queue(), advance_of(m, options_, end_, pad_));
  }
  [[nodiscard]] std::vector<std::vector<Hypothesis>> finish() { return hypotheses_of(memory()); }
  /// What row would run, had it not ended: its tokens after the start token.
  [[nodiscard]] std::vector<std::int32_t> history(std::int64_t row) {
    const kernels::BeamState s = memory().state;
    const auto capacity = static_cast<std::size_t>(s.ancestry.extent(1));
    std::vector<std::int32_t> tokens;
    for (std::size_t j = 1; j < static_cast<std::size_t>(length()); ++j) {
      const auto from =
          static_cast<std::size_t>(s.ancestry.as<std::int32_t>()[static_cast<std::size_t>(row) * capacity + j]);
      tokens.push_back(s.token_cache.as<std::int32_t>()[from * capacity + j]);
    }
    return tokens;
  }

 private:
  template <typename T>
  static std::vector<T> copied(const TensorView& view) {
    const auto values = view.as<T>();
    return {values.begin(), values.end()};
  }
  [[nodiscard]] BeamMemory memory() {
    Carver carver(bytes_.data());
    return carve_beams(carver, items_, options_);
  }

  std::int64_t items_;
  GenerationOptions options_;
  std::int32_t end_, pad_;
  std::vector<std::byte> bytes_;
};

struct Candidate {
  float score;
  std::int32_t row, token;
};

void advance(BeamSearch& search, const std::vector<Candidate>& candidates) {
  std::vector<float> scores;
  std::vector<std::int32_t> rows;
  std::vector<std::int32_t> tokens;
  for (const Candidate& candidate : candidates) {
    scores.push_back(candidate.score);
    rows.push_back(candidate.row);
    tokens.push_back(candidate.token);
  }
  search.advance(scores, rows, tokens);
}

BeamSearch one_item(GenerationOptions options) { return {1, options, kStart, kEnd, kPad}; }

TEST(BeamSearch, Starts_WithOneBeamOfEachItemThatMayGoOn) {
  BeamSearch search(2, {.num_beams = 3}, kStart, kEnd, kPad);

  EXPECT_THAT(search.next_tokens(), ElementsAre(kStart, kStart, kStart, kStart, kStart, kStart));
  EXPECT_THAT(search.row_scores(), ElementsAre(0.0F, -1e9F, -1e9F, 0.0F, -1e9F, -1e9F));
  EXPECT_EQ(search.candidates(), 6);
  EXPECT_EQ(search.length(), 1);
  EXPECT_FALSE(search.done());
}

TEST(BeamSearch, TheBestThatDoNotEnd_AreTheNextBeams) {
  BeamSearch search = one_item({.num_beams = 2, .max_length = 10});
  advance(search, {{-0.1F, 0, 5}, {-0.2F, 0, 6}, {-0.3F, 0, 7}, {-0.4F, 0, 8}});
  advance(search, {{-0.5F, 1, 3}, {-0.6F, 1, 4}, {-0.7F, 0, 3}, {-0.8F, 0, 4}});

  EXPECT_THAT(search.next_tokens(), ElementsAre(3, 4));
  EXPECT_THAT(search.parents(), ElementsAre(1, 1));
  EXPECT_THAT(search.row_scores(), ElementsAre(-0.5F, -0.6F));
  EXPECT_EQ(search.length(), 3);
  EXPECT_THAT(search.history(0), ElementsAre(6, 3));
  EXPECT_THAT(search.history(1), ElementsAre(6, 4));
}

TEST(BeamSearch, AnEndOfRankBelowTheBeams_IsKept) {
  BeamSearch search = one_item({.num_beams = 2, .max_length = 3, .length_penalty = 1.0});
  advance(search, {{-0.1F, 0, 5}, {-0.2F, 0, kEnd}, {-0.3F, 0, 7}, {-0.4F, 0, 8}});
  advance(search, {{-4.0F, 0, 2}, {-5.0F, 0, 3}, {-6.0F, 0, 4}, {-7.0F, 0, 5}});

  ASSERT_TRUE(search.done());
  const auto found = search.finish();
  EXPECT_THAT(found[0][0].tokens, ElementsAre(kEnd));
  EXPECT_FLOAT_EQ(static_cast<float>(found[0][0].score), -0.2F);
  EXPECT_THAT(found[0][1].tokens, ElementsAre(5, 2));
  EXPECT_FLOAT_EQ(static_cast<float>(found[0][1].score), -2.0F);
}

TEST(BeamSearch, AnEndOfRankAtOrAboveTheBeams_IsSkipped) {
  BeamSearch search = one_item({.num_beams = 2, .max_length = 2});
  advance(search, {{-0.1F, 0, 5}, {-0.2F, 0, 6}, {-0.3F, 0, kEnd}, {-0.4F, 0, 8}});

  const auto found = search.finish();
  ASSERT_EQ(found[0].size(), 2U);
  EXPECT_THAT(found[0][0].tokens, ElementsAre(5));
  EXPECT_THAT(found[0][1].tokens, ElementsAre(6));
}

TEST(BeamSearch, ALateEndBehindAFirstOne_IsSkippedWhileBeamsFillUp) {
  BeamSearch search = one_item({.num_beams = 2, .max_length = 9, .early_stopping = EarlyStopping::no});
  advance(search, {{-0.1F, 0, 5}, {-0.2F, 0, 6}, {-0.3F, 0, 7}, {-0.4F, 0, 8}});
  // Rank 0 ends and is kept; rank 2 ends too late; ranks 1 and 3 go on.
  advance(search, {{-0.5F, 0, kEnd}, {-0.6F, 0, 4}, {-0.7F, 1, kEnd}, {-0.8F, 1, 4}});

  EXPECT_THAT(search.next_tokens(), ElementsAre(4, 4));
  EXPECT_THAT(search.parents(), ElementsAre(0, 1));
  EXPECT_FALSE(search.done());
}

/// Two hypotheses of 2 tokens that end with the sums -1.0 and -1.2, and an open beam with the sum `open`.
BeamSearch two_finished(EarlyStopping early, double length_penalty, float open) {
  BeamSearch search =
      one_item({.num_beams = 2, .max_length = 11, .length_penalty = length_penalty, .early_stopping = early});
  advance(search, {{-0.1F, 0, 5}, {-0.2F, 0, 6}, {-0.3F, 0, 7}, {-0.4F, 0, 8}});
  advance(search, {{-1.0F, 0, kEnd}, {-1.2F, 1, kEnd}, {open, 0, 4}, {open - 0.1F, 1, 4}});
  return search;
}

TEST(BeamSearch, EarlyStopping_EndsWithAsManyHypothesesAsBeams) {
  EXPECT_TRUE(two_finished(EarlyStopping::yes, 1.0, -1.3F).done());
}

TEST(BeamSearch, WithoutEarlyStopping_EndsWhenTheBestCandidateCannotBeatTheWorstAtItsLength) {
  // The best candidate of this step is the first hypothesis itself: -1.0 / 2 beats -1.2 / 2.
  BeamSearch search = two_finished(EarlyStopping::no, 1.0, -1.3F);
  EXPECT_FALSE(search.done());
  // -1.7 / 3 still beats -0.6, and -1.9 / 3 does not.
  BeamSearch better = search;
  advance(better, {{-1.7F, 0, 3}, {-1.8F, 0, 4}, {-1.9F, 1, 3}, {-2.0F, 1, 4}});
  EXPECT_FALSE(better.done());
  advance(search, {{-1.9F, 0, 3}, {-2.0F, 0, 4}, {-2.1F, 1, 3}, {-2.2F, 1, 4}});
  EXPECT_TRUE(search.done());
}

TEST(BeamSearch, Never_JudgesAtTheLongestPossibleLength) {
  // At 10 tokens a sum of -5.9 is -0.59 a token, which beats -0.6; -6.1 does not.
  BeamSearch search = two_finished(EarlyStopping::never, 1.0, -1.3F);
  BeamSearch better = search;
  advance(better, {{-5.9F, 0, 3}, {-6.0F, 0, 4}, {-6.1F, 1, 3}, {-6.2F, 1, 4}});
  EXPECT_FALSE(better.done());
  advance(search, {{-6.1F, 0, 3}, {-6.2F, 0, 4}, {-6.3F, 1, 3}, {-6.4F, 1, 4}});
  EXPECT_TRUE(search.done());
}

TEST(BeamSearch, NeverWithANegativePenalty_JudgesAtTheCurrentLength) {
  // A negative exponent makes longer worse: scores are sum · length, the worst finished one has -2.4. The best
  // candidate has -0.7 · 3 = -2.1 now, and -0.7 · 10 at the longest.
  BeamSearch search = two_finished(EarlyStopping::never, -1.0, -1.3F);
  advance(search, {{-0.7F, 0, 3}, {-1.0F, 0, 4}, {-1.1F, 1, 3}, {-1.2F, 1, 4}});

  EXPECT_FALSE(search.done());
}

TEST(BeamSearch, LengthPenalty_DividesByThePowerOfTheLength) {
  for (const double penalty : {0.0, 0.6, 1.0, 2.0}) {
    const auto found = two_finished(EarlyStopping::yes, penalty, -1.3F).finish();

    EXPECT_NEAR(found[0][0].score, -1.0 / std::pow(2.0, penalty), 1e-7);
    EXPECT_NEAR(found[0][1].score, -1.2 / std::pow(2.0, penalty), 1e-7);
  }
}

TEST(BeamSearch, TheBestHypothesesAreKept_AndTheWorstDropped) {
  BeamSearch search = one_item({.num_beams = 2, .max_length = 11, .early_stopping = EarlyStopping::no});
  advance(search, {{-0.1F, 0, 5}, {-0.2F, 0, 6}, {-0.3F, 0, 7}, {-0.4F, 0, 8}});
  advance(search, {{-1.0F, 0, kEnd}, {-3.0F, 1, kEnd}, {-3.1F, 0, 4}, {-3.2F, 1, 4}});
  advance(search, {{-3.15F, 0, kEnd}, {-9.0F, 0, 4}, {-9.1F, 1, 4}, {-9.2F, 1, 5}});

  const auto found = search.finish();

  ASSERT_EQ(found[0].size(), 2U);
  EXPECT_THAT(found[0][0].tokens, ElementsAre(5, kEnd));     // -1.0 / 2
  EXPECT_THAT(found[0][1].tokens, ElementsAre(5, 4, kEnd));  // -3.15 / 3 beats -3.0 / 2
}

TEST(BeamSearch, OfEqualScores_TheLaterComesFirstAndTheEarlierIsDropped) {
  const auto finished = [](float last) {
    BeamSearch search = one_item({.num_beams = 2, .max_length = 11, .early_stopping = EarlyStopping::no});
    advance(search, {{-0.1F, 0, 5}, {-0.2F, 0, 6}, {-0.3F, 0, 7}, {-0.4F, 0, 8}});
    advance(search, {{-1.0F, 0, kEnd}, {-1.05F, 0, 4}, {-1.1F, 1, 4}, {-1.2F, 1, 5}});  // -0.5 a token
    advance(search, {{-1.2F, 0, 6}, {-1.5F, 1, kEnd}, {-1.6F, 1, 7}, {-1.7F, 1, 8}});   // likewise
    advance(search, {{last, 0, kEnd}, {-9.0F, 0, 4}, {-9.1F, 1, 4}, {-9.2F, 1, 5}});
    return search.finish()[0];
  };

  const auto tie = finished(-2.0F);
  EXPECT_THAT(tie[0].tokens, ElementsAre(6, 4, kEnd));
  EXPECT_THAT(tie[1].tokens, ElementsAre(5, kEnd));
  const auto better = finished(-1.5F);
  EXPECT_THAT(better[0].tokens, ElementsAre(5, 4, 6, kEnd));
  EXPECT_THAT(better[1].tokens, ElementsAre(6, 4, kEnd));
}

TEST(BeamSearch, AtMaxLength_OpenBeamsAreHypothesesToo) {
  BeamSearch search = one_item({.num_beams = 2, .max_length = 3});
  advance(search, {{-0.1F, 0, 5}, {-0.2F, 0, 6}, {-0.3F, 0, 7}, {-0.4F, 0, 8}});
  EXPECT_FALSE(search.done());
  advance(search, {{-0.4F, 0, 3}, {-0.6F, 1, 4}, {-0.7F, 0, 5}, {-0.8F, 1, 5}});

  ASSERT_TRUE(search.done());
  const auto found = search.finish();
  EXPECT_THAT(found[0][0].tokens, ElementsAre(5, 3));
  EXPECT_FLOAT_EQ(static_cast<float>(found[0][0].score), -0.2F);
  EXPECT_THAT(found[0][1].tokens, ElementsAre(6, 4));
}

TEST(BeamSearch, AFinishedItem_RunsPaddingWhileOthersGoOn) {
  BeamSearch search(2, {.num_beams = 2, .max_length = 9, .early_stopping = EarlyStopping::yes}, kStart, kEnd, kPad);
  advance(search, {{-0.1F, 0, 5},
                   {-0.2F, 0, 6},
                   {-0.3F, 0, 7},
                   {-0.4F, 0, 8},  //
                   {-0.1F, 2, 5},
                   {-0.2F, 2, 6},
                   {-0.3F, 2, 7},
                   {-0.4F, 2, 8}});
  advance(search, {{-0.5F, 0, kEnd},
                   {-0.6F, 1, kEnd},
                   {-0.7F, 0, 7},
                   {-0.8F, 0, 8},  //
                   {-0.5F, 3, 5},
                   {-0.6F, 2, 6},
                   {-0.7F, 2, 7},
                   {-0.8F, 2, 8}});
  EXPECT_FALSE(search.done());
  advance(search, {{-0.1F, 0, 2},
                   {-0.1F, 0, 3},
                   {-0.1F, 1, 2},
                   {-0.1F, 1, 3},  //
                   {-0.9F, 2, 5},
                   {-1.0F, 2, 6},
                   {-1.1F, 3, 7},
                   {-1.2F, 3, 8}});

  EXPECT_THAT(search.next_tokens(), ElementsAre(kPad, kPad, 5, 6));
  EXPECT_THAT(search.row_scores(), ElementsAre(0.0F, 0.0F, -0.9F, -1.0F));
  EXPECT_THAT(search.parents(), ElementsAre(0, 1, 2, 2));
  const auto found = search.finish();
  EXPECT_THAT(found[0][0].tokens, ElementsAre(5, kEnd));
  EXPECT_THAT(found[0][1].tokens, ElementsAre(6, kEnd));
  EXPECT_TRUE(found[1].empty());
  EXPECT_THAT(search.history(2), ElementsAre(6, 5, 5));
}

TEST(BeamSearch, Greedy_EndsAtItsFirstEndWhateverEarlyStoppingSays) {
  BeamSearch search = one_item({.num_beams = 1, .max_length = 9, .early_stopping = EarlyStopping::never});
  advance(search, {{-0.1F, 0, 5}, {-0.2F, 0, kEnd}});
  EXPECT_FALSE(search.done());
  advance(search, {{-0.3F, 0, kEnd}, {-0.4F, 0, 6}});

  ASSERT_TRUE(search.done());
  const auto found = search.finish();
  ASSERT_EQ(found[0].size(), 1U);
  EXPECT_THAT(found[0][0].tokens, ElementsAre(5, kEnd));
}

TEST(BeamSearch, WhenAllIsOver_FurtherStepsChangeNothing) {
  BeamSearch search = one_item({.num_beams = 2, .max_length = 3});
  advance(search, {{-0.1F, 0, 5}, {-0.2F, 0, 6}, {-0.3F, 0, 7}, {-0.4F, 0, 8}});
  advance(search, {{-0.4F, 0, 3}, {-0.6F, 1, 4}, {-0.7F, 0, 5}, {-0.8F, 1, 5}});
  const auto wanted = search.finish();
  ASSERT_TRUE(search.done());

  advance(search, {{-0.1F, 0, kEnd}, {-0.1F, 1, kEnd}, {-0.1F, 0, 5}, {-0.1F, 1, 5}});

  EXPECT_EQ(search.length(), 3);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(search.finish()[0][i].tokens, wanted[0][i].tokens);
    EXPECT_EQ(search.finish()[0][i].score, wanted[0][i].score);
  }
}

TEST(BeamSearch, OfEqualSumsInOneStep_TheFirstIsKeptWhenThereIsPlaceForOne) {
  BeamSearch search = one_item({.num_beams = 2, .max_length = 11, .early_stopping = EarlyStopping::no});
  advance(search, {{-0.1F, 0, 5}, {-0.2F, 0, 6}, {-0.3F, 0, 7}, {-0.4F, 0, 8}});
  advance(search, {{-0.2F, 0, kEnd}, {-0.3F, 1, 4}, {-0.4F, 0, 4}, {-0.5F, 1, 5}});
  advance(search, {{-1.5F, 0, kEnd}, {-1.5F, 1, kEnd}, {-1.6F, 0, 4}, {-1.7F, 1, 5}});

  ASSERT_TRUE(search.done());
  const auto found = search.finish();
  EXPECT_THAT(found[0][0].tokens, ElementsAre(5, kEnd));
  EXPECT_THAT(found[0][1].tokens, ElementsAre(6, 4, kEnd));
}

TEST(BeamSearch, WithoutItems_IsDoneAtOnce) {
  BeamSearch search(0, {.num_beams = 4}, kStart, kEnd, kPad);

  EXPECT_TRUE(search.done());
  EXPECT_TRUE(search.finish().empty());
}

}  // namespace
}  // namespace spillway::model
