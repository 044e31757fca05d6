// SPDX-License-Identifier: Apache-2.0
#include "model/generator.hpp"

#include <algorithm>

#include <gmock/gmock.h>

#include "model/tiny_model.hpp"

namespace spillway::model::test {
namespace {

using nlohmann::json;

GenerationOptions options_of(const json& settings) {
  GenerationOptions options;
  options.num_beams = settings.at("num_beams").get<int>();
  options.max_length = settings.at("max_length").get<std::int64_t>();
  options.length_penalty = settings.value("length_penalty", 1.0);
  const json early = settings.value("early_stopping", json(false));
  options.early_stopping = early.is_string()   ? EarlyStopping::never
                           : early.get<bool>() ? EarlyStopping::yes
                                               : EarlyStopping::no;
  options.min_length = settings.value("min_length", std::int64_t{0});
  options.no_repeat_ngram_size = settings.value("no_repeat_ngram_size", std::int64_t{0});
  options.repetition_penalty = settings.value("repetition_penalty", 1.0);
  options.num_return_sequences = settings.value("num_return_sequences", 1);
  return options;
}

class GeneratorAgainstTransformers : public ::testing::TestWithParam<const char*> {
 protected:
  json reference = reference_numbers(GetParam());
  std::unique_ptr<TinyModel> model = TinyModel::read(GetParam());
  Ids sources = reference.at("generation_sources").get<Ids>();
};

TEST_P(GeneratorAgainstTransformers, TokensAndScoresAreEqual) {
  for (const json& entry : reference.at("generation")) {
    const GenerationOptions options = options_of(entry.at("settings"));
    const Ids wanted = entry.at("sequences").get<Ids>();

    const auto found = model->generate(sources, options);

    const auto returned = static_cast<std::size_t>(options.num_return_sequences);
    ASSERT_EQ(found.size() * returned, wanted.size());
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const Hypothesis& one = found[i / returned].at(i % returned);
      std::vector<std::int32_t> sequence = {model->config().decoder_start_token_id};
      sequence.insert(sequence.end(), one.tokens.begin(), one.tokens.end());
      EXPECT_EQ(sequence, wanted[i]) << entry.at("settings") << " sequence " << i;
      if (!entry.at("scores").is_null()) {
        EXPECT_NEAR(one.score, entry.at("scores")[i].get<double>(), 1e-4) << entry.at("settings") << " sequence " << i;
      }
    }
  }
  EXPECT_TRUE(model->parameters().all_released());
}

TEST_P(GeneratorAgainstTransformers, WithWeightsThatStay_ResultsAreTheSame) {
  for (const int beams : {1, 3}) {
    const GenerationOptions options{.num_beams = beams, .max_length = 16, .no_repeat_ngram_size = 2};
    const auto wanted = model->generate(sources, options);

    const auto found = model->generate(
        sources, options, [](bool done) { return done; }, true);

    ASSERT_EQ(found.size(), wanted.size());
    for (std::size_t item = 0; item < wanted.size(); ++item)
      for (std::size_t i = 0; i < wanted[item].size(); ++i) {
        EXPECT_EQ(found[item].at(i).tokens, wanted[item][i].tokens);
        EXPECT_EQ(found[item][i].score, wanted[item][i].score);
      }
  }
  EXPECT_TRUE(model->parameters().all_released());
}

TEST_P(GeneratorAgainstTransformers, AnItemAlone_IsDecodedAsInABatch) {
  const GenerationOptions options{.num_beams = 4, .max_length = 20, .early_stopping = EarlyStopping::no};
  const auto together = model->generate(sources, options);

  for (std::size_t item = 0; item < sources.size(); ++item) {
    const auto alone = model->generate({sources[item]}, options).front();

    ASSERT_EQ(alone.size(), 4U);
    EXPECT_EQ(alone.front().tokens, together[item].front().tokens) << item;
    EXPECT_NEAR(alone.front().score, together[item].front().score, 1e-5) << item;
  }
}

TEST_P(GeneratorAgainstTransformers, Hypotheses_AreSortedAndNoneIsLongerThanAllowed) {
  const auto found =
      model->generate(sources, {.num_beams = 3, .max_length = 9, .early_stopping = EarlyStopping::never});

  for (const auto& hypotheses : found) {
    ASSERT_EQ(hypotheses.size(), 3U);
    for (std::size_t i = 0; i < hypotheses.size(); ++i) {
      EXPECT_LE(hypotheses[i].tokens.size(), 8U);
      EXPECT_LE(hypotheses[i].score, hypotheses[std::max<std::size_t>(i, 1) - 1].score);
    }
  }
}

TEST_P(GeneratorAgainstTransformers, ARankWithoutItems_KeepsStepUntilAllAreDone) {
  int questions = 0;

  const auto found = model->generate({}, {.num_beams = 4, .max_length = 12}, [&](bool done) {
    EXPECT_TRUE(done);
    return ++questions > 5;
  });

  EXPECT_TRUE(found.empty());
  EXPECT_EQ(questions, 6);
}

TEST_P(GeneratorAgainstTransformers, WhileOtherRanksGoOn_ResultsStay) {
  const GenerationOptions options{.num_beams = 2, .max_length = 7};
  const auto wanted = model->generate(sources, options);
  int extra = 0;

  const auto found = model->generate(sources, options, [&](bool done) { return done && ++extra > 4; });

  for (std::size_t item = 0; item < wanted.size(); ++item)
    EXPECT_EQ(found[item].front().tokens, wanted[item].front().tokens);
}

INSTANTIATE_TEST_SUITE_P(Models, GeneratorAgainstTransformers,
                         ::testing::Values("v10", "v11", "odd_heads", "uneven_2_3", "uneven_3_1", "mt5", "umt5", "byt5",
                                           "silu"),
                         [](const auto& folder) { return std::string(folder.param); });

}  // namespace
}  // namespace spillway::model::test
