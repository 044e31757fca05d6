// SPDX-License-Identifier: Apache-2.0
#include "train/generation_settings.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::ThrowsMessage;
using ::testing::UnorderedElementsAre;

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
  EXPECT_THAT(refused(R"({"max_length": 1})"), HasSubstr("eval.max_length: expected 2 to 1048576"));
  EXPECT_THAT(refused(R"({"min_length": -1})"), HasSubstr("eval.min_length"));
  EXPECT_THAT(refused(R"({"repetition_penalty": 0.0})"), HasSubstr("eval.repetition_penalty"));
  EXPECT_THAT(refused(R"({"num_beams": 0})"), HasSubstr("eval.num_beams"));
  // Above 0 as a double, 0 as the float that scores are divided by; likewise infinite.
  EXPECT_THAT(refused(R"({"repetition_penalty": 1e-50})"), HasSubstr("eval.repetition_penalty"));
  EXPECT_THAT(refused(R"({"repetition_penalty": 1e50})"), HasSubstr("eval.repetition_penalty"));
}

TEST(GenerationOptions, NumbersOfTheModelThatNoMemoryHolds_AreRefusedNamingTheFile) {
  for (const char* key : {"max_length", "min_length", "no_repeat_ngram_size", "num_beams", "num_return_sequences",
                          "max_new_tokens", "min_new_tokens"})
    for (const char* number : {"1048577", "4611686018427387904", "18446744073709551615"})
      EXPECT_THAT([&] { (void)generation_options({}, source("{}", fmt::format(R"({{"{}": {}}})", key, number))); },
                  ThrowsMessage<DataError>(
                      AllOf(HasSubstr(fmt::format("m/generation_config.json: key \"{}\": expected at most", key)),
                            HasSubstr(number))));
  EXPECT_EQ(generation_options({}, source("{}", R"({"max_length": 1048576})")).max_length, 1 << 20);
  EXPECT_EQ(generation_options({}, source("{}", R"({"max_new_tokens": 1048575})")).max_length, 1 << 20);
}

TEST(GenerationOptions, OfKeysThatNoMemoryHolds_AreRefused) {
  for (const auto member : {&EvalOptions::max_length, &EvalOptions::min_length, &EvalOptions::no_repeat_ngram_size,
                            &EvalOptions::num_beams}) {
    EvalOptions eval;
    eval.*member = (1 << 20) + 1;
    EXPECT_THROW((void)generation_options(eval, source("{}")), ConfigError);
  }
}

TEST(GenerationOptions, NewTokens_GoBeforeLengthsOfTheSamePlace) {
  const auto of = [](const EvalOptions& eval, const std::string& generation) {
    return generation_options(eval, source("{}", generation));
  };

  EXPECT_EQ(of({}, R"({"max_new_tokens": 30, "max_length": 20})").max_length, 31);
  EXPECT_EQ(of({}, R"({"min_new_tokens": 5, "min_length": 2})").min_length, 6);
  EXPECT_EQ(of({.max_length = 12}, R"({"max_new_tokens": 30})").max_length, 12);
  EXPECT_THAT([&] { (void)of({}, R"({"max_new_tokens": -1})"); },
              ThrowsMessage<DataError>(HasSubstr("max_new_tokens")));
}

TEST(EntriesLeftOut, AreThoseThatWouldMatter) {
  const auto left_out = [](const std::string& generation) { return entries_left_out(source("{}", generation)); };

  EXPECT_THAT(left_out(""), IsEmpty());
  EXPECT_THAT(
      left_out(R"({"num_beam_groups": 1, "forced_eos_token_id": null, "bad_words_ids": [], "guidance_scale": 1.0,
                           "encoder_no_repeat_ngram_size": 0, "do_sample": false, "temperature": 0.5, "top_k": 5,
                           "eos_token_id": 1, "decoder_start_token_id": 0, "transformers_version": "4.40.2"})"),
      IsEmpty());
  EXPECT_THAT(
      left_out(R"({"do_sample": true, "num_beam_groups": 2, "forced_eos_token_id": 1, "bad_words_ids": [[3]],
                           "suppress_tokens": [5], "encoder_no_repeat_ngram_size": 3, "eos_token_id": [1, 7],
                           "decoder_start_token_id": 2})"),
      UnorderedElementsAre("do_sample", "num_beam_groups", "forced_eos_token_id", "bad_words_ids", "suppress_tokens",
                           "encoder_no_repeat_ngram_size", "eos_token_id", "decoder_start_token_id"));
}

}  // namespace
}  // namespace spillway::train
