// SPDX-License-Identifier: Apache-2.0
// What comes out of evaluations: metrics, the best model, result files, event files, and the model's tasks in training.
#include <algorithm>
#include <filesystem>
#include <map>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "app/workplace.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

const std::vector<std::string> kPretrained = {"model.path=pretrained", "model.init=pretrained",
                                              "model.embedding_std=0"};
constexpr const char* kTask = "eval.task=translation_en_to_ro";

std::vector<std::string> with(std::vector<std::string> settings, const std::vector<std::string>& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

class ProgramResults : public testing::TestWithParam<int> {
 protected:
  void train(const std::vector<std::string>& settings) const {
    const ProgramResult result = place_.train(GetParam(), settings);
    ASSERT_EQ(result.exit_code, 0) << describe(result);
  }
  [[nodiscard]] json all_results() const { return json::parse(place_.read("out/all_results.json")); }
  /// A key of the lines of metrics that have it, the last of each step.
  [[nodiscard]] std::map<int, double> metric(const std::string& key) const {
    std::map<int, double> values;
    for (const std::string& line : lines_of(place_.read("out/metrics.jsonl")))
      if (const json object = json::parse(line); object.contains(key)) values[object.at("step")] = object.at(key);
    return values;
  }
  [[nodiscard]] bool has_checkpoint(int step) const {
    return place_.exists("out/checkpoints/step-00000000" + std::to_string(step));
  }
  /// The files of events, whatever their folders are called.
  [[nodiscard]] std::vector<std::string> event_files() const {
    std::vector<std::string> files;
    if (!place_.exists("out/runs")) return files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(place_.path("out/runs")))
      if (entry.is_regular_file()) files.push_back(entry.path().filename().string());
    return files;
  }

  Workplace place_;
};

INSTANTIATE_TEST_SUITE_P(Ranks, ProgramResults, testing::Values(1, 2));

TEST_P(ProgramResults, EveryEpoch_EvaluatesAndSavesAtItsEnd) {
  train({"train.max_steps=9", "checkpoint.save_steps=epoch", "checkpoint.save_total_limit=0",
         "checkpoint.save_final=false", "eval.eval_steps=epoch", "eval.predict_with_generate=false"});

  std::vector<int> steps;
  for (const auto& [step, loss] : metric("eval_loss")) steps.push_back(step);
  EXPECT_THAT(steps, ElementsAre(4, 8, 9));  // 30 samples, 8 a step
  for (const int step : {1, 2, 3, 4, 5, 6, 7, 8, 9}) EXPECT_EQ(has_checkpoint(step), step == 4 || step == 8) << step;
}

TEST_P(ProgramResults, TheBestModel_IsKeptExportedAndEvaluated) {
  // The first step is one of length 0, and what follows is far too large.
  train(with(kPretrained, {"optimizer.learning_rate=0.5", "schedule.warmup_steps=6", "checkpoint.save_steps=1",
                           "eval.eval_steps=1", "eval.predict_with_generate=false", "checkpoint.save_total_limit=1",
                           "checkpoint.load_best_model_at_end=true"}));

  std::vector<double> losses;  // of the evaluations in their order
  for (const std::string& line : lines_of(place_.read("out/metrics.jsonl")))
    if (const json object = json::parse(line); object.contains("eval_loss")) losses.push_back(object.at("eval_loss"));
  ASSERT_THAT(losses, SizeIs(7));  // six steps, and the best again
  const auto best = std::min_element(losses.begin(), losses.begin() + 6);
  ASSERT_LT(best - losses.begin(), 5) << "the last step must not be the best one for this test";
  EXPECT_TRUE(has_checkpoint(static_cast<int>(best - losses.begin()) + 1));
  EXPECT_TRUE(has_checkpoint(6));
  EXPECT_EQ(losses.back(), *best);
  EXPECT_EQ(all_results().at("eval_loss"), *best);
  const ProgramResult exported =
      place_.run(GetParam(), {"evaluate", "run.toml", "--model", "out/model", "--set", "model.tokenizer=bytes", "--set",
                              "eval.predict_with_generate=false"});
  ASSERT_EQ(exported.exit_code, 0) << describe(exported);
  EXPECT_EQ(json::parse(exported.out).at("eval_loss"), *best);
}

TEST_P(ProgramResults, TheBestModel_NeedsEvaluationsWhereThereAreCheckpoints) {
  const std::string best = "checkpoint.load_best_model_at_end=true";
  for (const auto& [settings, text] :
       std::map<std::vector<std::string>, std::string>{{{best}, "found 3 and 0"},
                                                       {{best, "eval.eval_steps=2"}, "found 3 and 2"},
                                                       {{best, "eval.eval_steps=epoch"}, "found 3 and \"epoch\""},
                                                       {{best, "eval.eval_steps=3", "data.val="}, "needs data.val"}}) {
    const ProgramResult result = place_.train(GetParam(), settings);

    EXPECT_EQ(result.exit_code, 2) << describe(result);
    EXPECT_THAT(result.err, HasSubstr(text));
  }
  EXPECT_FALSE(place_.exists("out"));
}

TEST_P(ProgramResults, Rouge_IsReportedUnderHuggingFacesNames) {
  train(with(kPretrained, {"eval.metric=rouge", "train.max_steps=1"}));

  const json results = all_results();
  for (const char* name : {"eval_rouge1", "eval_rouge2", "eval_rougeL", "eval_rougeLsum", "eval_gen_len"})
    EXPECT_TRUE(results.contains(name)) << name;
  EXPECT_FALSE(results.contains("eval_bleu"));
  EXPECT_GT(results.at("eval_rouge1"), 0.0);
  EXPECT_THAT(lines_of(place_.read("out/generated_predictions.txt")), SizeIs(7));
}

TEST_P(ProgramResults, EventFiles_AreWrittenAndEachRunHasItsOwn) {
  const std::vector<std::string> settings = {"report.tensorboard=true", "eval.predict_with_generate=false"};
  train(settings);
  ASSERT_THAT(event_files(), SizeIs(1));

  train(with(settings, {"train.max_steps=7"}));

  EXPECT_THAT(event_files(), SizeIs(2));
  EXPECT_THAT(event_files(), testing::Each(testing::StartsWith("events.out.tfevents.")));
}

TEST_P(ProgramResults, WithoutTensorboard_ThereAreNoEventFiles) {
  train({"train.max_steps=1", "eval.predict_with_generate=false"});

  EXPECT_FALSE(place_.exists("out/runs"));
}

TEST_P(ProgramResults, ATask_PutsItsPrefixInFrontInTrainingToo) {
  const std::vector<std::string> brief =
      with(kPretrained, {"train.logging_steps=1", "train.max_steps=2", "eval.predict_with_generate=false"});
  const auto losses = [&](const std::string& folder, const std::vector<std::string>& more) {
    train(with(with(brief, more), {"train.output_dir=out", "checkpoint.dir=" + folder}));
    const auto found = metric("loss");
    std::filesystem::remove_all(place_.path("out"));
    return found;
  };

  const auto task = losses("a", {kTask});
  EXPECT_EQ(task, losses("b", {"data.source_prefix=translate English to Romanian: "}));
  EXPECT_NE(task, losses("c", {}));
  EXPECT_EQ(losses("d", {kTask, "data.source_prefix="}), losses("e", {}));
}

TEST_P(ProgramResults, AnotherTask_IsRefusedOnResume) {
  const std::vector<std::string> brief = with(kPretrained, {"train.max_steps=1", "eval.predict_with_generate=false"});
  train(brief);

  const ProgramResult result = place_.train(GetParam(), with(brief, {kTask, "train.max_steps=2"}));

  EXPECT_EQ(result.exit_code, 2) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("eval.task: the checkpoint has \"\", the configuration \"translation_en_to_ro\""));
}

TEST_P(ProgramResults, Evaluate_AddsToTheResultsOfTraining) {
  train(with(kPretrained, {"train.max_steps=1"}));
  const json trained = all_results();
  const std::vector<std::string> evaluate = {
      "evaluate", "run.toml", "--set", "model.path=pretrained", "--set", "model.init=pretrained"};

  ASSERT_EQ(place_.run(GetParam(), with(evaluate, {"--set", "eval.max_length=8"})).exit_code, 0);
  ASSERT_EQ(place_.run(GetParam(), with(evaluate, {"--split", "test"})).exit_code, 0);

  const json results = all_results();
  for (const char* name : {"train_loss", "train_runtime", "train_samples", "epoch", "eval_loss", "eval_samples"})
    EXPECT_EQ(results.at(name), trained.at(name)) << name;
  EXPECT_NE(results.at("eval_gen_len"), trained.at("eval_gen_len"));
  EXPECT_EQ(results.at("predict_samples"), 4);
  EXPECT_TRUE(results.contains("predict_bleu"));
  EXPECT_THAT(lines_of(place_.read("out/test_predictions.txt")), SizeIs(4));
}

}  // namespace
}  // namespace spillway::test
