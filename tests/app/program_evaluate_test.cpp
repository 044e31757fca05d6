// SPDX-License-Identifier: Apache-2.0
// evaluate: the same numbers as inside train, for a checkpoint and for a model.
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "app/workplace.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

/// A model that translates some words, trained a little further; the tests only read it.
const Workplace& trained() {
  static const Workplace place;
  static const ProgramResult result =
      place.train(2, {"model.path=pretrained", "model.init=pretrained", "model.embedding_std=0"});
  EXPECT_EQ(result.exit_code, 0) << describe(result);
  return place;
}

/// run.toml as it was trained, and more.
std::vector<std::string> evaluate(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {
      "evaluate", "run.toml", "--set", "model.path=pretrained", "--set", "model.init=pretrained"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

class ProgramEvaluate : public testing::TestWithParam<int> {
 protected:
  /// \return what it prints; the test fails if it does not end well
  [[nodiscard]] json evaluated(const std::vector<std::string>& more) const {
    const ProgramResult result = place_.run(GetParam(), evaluate(more));
    EXPECT_EQ(result.exit_code, 0) << describe(result);
    return json::parse(result.out, nullptr, false);
  }
  /// What train has found out.
  [[nodiscard]] json in_training() const {
    for (const std::string& line : lines_of(place_.read("out/metrics.jsonl")))
      if (const json object = json::parse(line); object.contains("eval_loss")) return object;
    ADD_FAILURE() << "there was no evaluation";
    return {};
  }

  const Workplace& place_ = trained();
};

INSTANTIATE_TEST_SUITE_P(Ranks, ProgramEvaluate, testing::Values(1, 2));

TEST_P(ProgramEvaluate, AfterTraining_GivesTheNumbersOfTheEvaluationInside) {
  const json inside = in_training();

  const json now = evaluated({});

  EXPECT_EQ(now.at("eval_loss"), inside.at("eval_loss"));
  EXPECT_EQ(now.at("eval_bleu"), inside.at("eval_bleu"));
  EXPECT_EQ(now.at("eval_gen_len"), inside.at("eval_gen_len"));
  EXPECT_GT(now.at("eval_bleu"), 0.0);
}

TEST_P(ProgramEvaluate, OfTheExportedModel_GivesTheSameNumbers) {
  const json now = evaluated({"--model", "out/model"});

  EXPECT_EQ(now.at("eval_loss"), in_training().at("eval_loss"));
  EXPECT_EQ(now.at("eval_bleu"), in_training().at("eval_bleu"));
}

TEST_P(ProgramEvaluate, OfAnEarlierCheckpoint_GivesOthers) {
  const json now = evaluated({"--checkpoint", "out/checkpoints/step-000000003"});

  EXPECT_NE(now.at("eval_loss"), in_training().at("eval_loss"));
}

TEST_P(ProgramEvaluate, OnlyTheRunsOwnNewestCheckpoint_ChangesTheRunsResults) {
  const std::string results = place_.read("out/all_results.json");
  const std::string predictions = place_.read("out/generated_predictions.txt");

  (void)evaluated({"--model", "pretrained", "--set", "eval.num_beams=1"});
  (void)evaluated({"--checkpoint", "out/checkpoints/step-000000003", "--set", "eval.num_beams=1"});

  EXPECT_EQ(place_.read("out/all_results.json"), results);
  EXPECT_EQ(place_.read("out/generated_predictions.txt"), predictions);
}

TEST_P(ProgramEvaluate, OfTheRunsTestSplit_AddsToTheResultsUnderNamesOfItsOwn) {
  const json before = json::parse(place_.read("out/all_results.json"));
  const std::string predictions = place_.read("out/generated_predictions.txt");

  (void)evaluated({"--split", "test"});

  const json after = json::parse(place_.read("out/all_results.json"));
  for (const auto& [name, value] : before.items())
    if (!name.starts_with("predict_")) {
      EXPECT_EQ(after.at(name), value) << name;
    }
  EXPECT_TRUE(after.contains("predict_bleu"));
  EXPECT_EQ(place_.read("out/generated_predictions.txt"), predictions);
  EXPECT_EQ(lines_of(place_.read("out/test_predictions.txt")).size(), 4U);
}

TEST_P(ProgramEvaluate, WithoutACheckpoint_WarnsThatNothingWasTrained) {
  const ProgramResult result = place_.run(GetParam(), evaluate({"--set", "train.output_dir=nowhere"}));

  EXPECT_EQ(result.exit_code, 0) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("warning: there is no checkpoint to evaluate"));
  EXPECT_FALSE(place_.exists("nowhere"));
}

TEST_P(ProgramEvaluate, OfTheTestSplit_ReadsTheOtherFiles) {
  const json now = evaluated({"--split", "test", "--set", "train.output_dir=elsewhere", "--model", "out/model"});

  EXPECT_EQ(now.at("eval_samples"), 4);
}

TEST_P(ProgramEvaluate, WithLossOnly_DoesNotGenerate) {
  EXPECT_FALSE(evaluated({"--set", "eval.predict_with_generate=false", "--set", "train.output_dir=elsewhere", "--model",
                          "out/model"})
                   .contains("eval_bleu"));
}

TEST_P(ProgramEvaluate, WithoutData_NamesTheKey) {
  const ProgramResult result = place_.run(GetParam(), evaluate({"--split", "test", "--set", "data.test="}));

  EXPECT_EQ(result.exit_code, 2) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("data.test is not set"));
}

TEST_P(ProgramEvaluate, OfACheckpointThatIsNotThere_NamesIt) {
  const ProgramResult result = place_.run(GetParam(), evaluate({"--checkpoint", "out/checkpoints/step-000000099"}));

  EXPECT_EQ(result.exit_code, 4) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("out/checkpoints/step-000000099: no such checkpoint"));
}

}  // namespace
}  // namespace spillway::test
