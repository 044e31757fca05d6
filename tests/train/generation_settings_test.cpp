// SPDX-License-Identifier: Apache-2.0
#include "train/generation_settings.hpp"

#include <gmock/gmock.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

ModelSource source(const std::string& tasks, const std::string& generation = "") {
  ModelSource made;
  made.directory = "m";
  made.config.json = R"({"task_specific_params": )" + tasks + "}";
  made.generation_json = generation;
  return made;
}

constexpr const char* kTasks = R"({
  "short": {"prefix": "shorten: ", "num_beams": 3, "max_length": 50, "min_length": 10, "length_penalty": 2.0,
            "early_stopping": "never", "no_repeat_ngram_size": 3},
  "plain": {"prefix": "say: "}})";

TEST(ApplyTask, FillsWhatIsAbsent) {
  RunOptions options;
  options.eval.task = "short";
  options.eval.max_length = 20;

  apply_task(options, source(kTasks, R"({"num_beams": 7, "repetition_penalty": 1.5})"));

  EXPECT_EQ(options.data.source_prefix, "shorten: ");
  const model::GenerationOptions found =
      generation_options(options.eval, source(kTasks, R"({"num_beams": 7, "repetition_penalty": 1.5})"));
  EXPECT_EQ(found.num_beams, 3);
  EXPECT_EQ(found.max_length, 20);
  EXPECT_EQ(found.min_length, 10);
  EXPECT_EQ(found.length_penalty, 2.0);
  EXPECT_EQ(found.early_stopping, model::EarlyStopping::never);
  EXPECT_EQ(found.no_repeat_ngram_size, 3);
  EXPECT_EQ(found.repetition_penalty, 1.5);
}

TEST(ApplyTask, LeavesAPrefixThatIsSet_EvenAnEmptyOne) {
  RunOptions options;
  options.eval.task = "plain";
  options.data.source_prefix = "";

  apply_task(options, source(kTasks));

  EXPECT_EQ(options.data.source_prefix, "");
}

TEST(ApplyTask, WithoutATask_ChangesNothing) {
  RunOptions options;

  apply_task(options, source(kTasks));

  EXPECT_EQ(options, RunOptions());
}

TEST(ApplyTask, AnUnknownTask_IsRefusedWithTheNearest) {
  RunOptions options;
  options.eval.task = "plane";

  EXPECT_THAT([&] { apply_task(options, source(kTasks)); },
              ThrowsMessage<ConfigError>(AllOf(HasSubstr("\"plane\""), HasSubstr("the nearest is \"plain\""))));
  EXPECT_THAT([&] { apply_task(options, source("null")); },
              ThrowsMessage<ConfigError>(HasSubstr("has no task_specific_params")));
}

TEST(ApplyTask, AnEntryOfAnotherType_IsNamed) {
  RunOptions options;
  options.eval.task = "t";

  EXPECT_THAT([&] { apply_task(options, source(R"({"t": {"num_beams": "four"}})")); },
              ThrowsMessage<DataError>(
                  "m/config.json: task_specific_params.t: key \"num_beams\": expected a whole number, found \"four\""));
}

TEST(GenerationOptions, OfNothing_AreTheConstants) {
  const model::GenerationOptions found = generation_options({}, source("{}"));

  EXPECT_EQ(found.num_beams, 4);
  EXPECT_EQ(found.max_length, 128);
  EXPECT_EQ(found.early_stopping, model::EarlyStopping::yes);
  EXPECT_EQ(found.num_return_sequences, 1);
  EXPECT_FALSE(found.processes_scores());
}

TEST(GenerationOptions, WhatNoSearchCanFollow_IsRefusedByItsKey) {
  const auto refused = [](const std::string& generation) {
    try {
      (void)generation_options({}, source("{}", generation));
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };

  EXPECT_THAT(refused(R"({"num_beams": 2, "num_return_sequences": 3})"),
              HasSubstr("eval.num_return_sequences: expected 1 to eval.num_beams, which is 2, found 3"));
  EXPECT_THAT(refused(R"({"max_length": 1})"), HasSubstr("eval.max_length: expected at least 2"));
  EXPECT_THAT(refused(R"({"min_length": -1})"), HasSubstr("eval.min_length"));
  EXPECT_THAT(refused(R"({"repetition_penalty": 0.0})"), HasSubstr("eval.repetition_penalty"));
  EXPECT_THAT(refused(R"({"num_beams": 0})"), HasSubstr("eval.num_beams"));
}

}  // namespace
}  // namespace spillway::train
