// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "app/workplace.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class ProgramPlan : public testing::Test {
 protected:
  /// Without what whoever runs the test has saved.
  [[nodiscard]] ProgramResult run(const std::vector<std::string>& arguments, int ranks = 1) const {
    ProgramCall call = place_.call(ranks, arguments);
    call.environment["XDG_CONFIG_HOME"] = place_.path("config");
    return run_program(call);
  }
  [[nodiscard]] json plan(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"plan", "run.toml", "--json"});
    const ProgramResult result = run(arguments);
    EXPECT_EQ(result.exit_code, 0) << describe(result);
    return json::parse(result.out, nullptr, false);
  }
  Workplace place_;
};

TEST_F(ProgramPlan, OfANamedCard_NeedsNoGpu) {
  const ProgramResult result = run({"plan", "run.toml", "--profile", "rtx3090-24gb"});

  EXPECT_EQ(result.exit_code, 0) << describe(result);
  EXPECT_THAT(result.out, AllOf(HasSubstr("context and libraries of the GPU"), HasSubstr("a step on rtx3090-24gb"),
                                HasSubstr("busiest: computing"), HasSubstr("largest batch of 128 + 128 tokens"),
                                HasSubstr("a checkpoint")));
  EXPECT_FALSE(place_.exists("out"));
}

TEST_F(ProgramPlan, OfTheBatchScriptsT53b_FitsACardOf24GbAndTheMemoryThatTheScriptAsksFor) {
  const std::vector<std::string> arguments = {
      "plan",  SPILLWAY_JOBS_DIR "/t5-3b.toml", "--set", "model.path=t5-3b", "--set", "model.init=random",
      "--set", "model.tokenizer=bytes"};
  for (const char* card : {"rtx3090-24gb", "rtx4090-24gb", "a10g-24gb"}) {
    std::vector<std::string> command = arguments;
    command.insert(command.end(), {"--json", "--profile", card});

    const ProgramResult result = run(command);

    ASSERT_EQ(result.exit_code, 0) << card << describe(result);
    const json peak = json::parse(result.out).at("peak_bytes_of_one_rank");
    EXPECT_LT(peak.at("device"), std::int64_t{24} << 30) << card;
    EXPECT_LT(peak.at("host"), std::int64_t{48} << 30) << card;
  }
}

TEST_F(ProgramPlan, WhenSlurmSignalsTooLate_SaysSo) {
  const auto out = [this](const char* seconds) {
    ProgramCall call = place_.call(1, {"plan", "run.toml", "--profile", "rtx3090-24gb"});
    call.environment["SPILLWAY_SIGNAL_SECONDS"] = seconds;
    return run_program(call).out;
  };

  EXPECT_THAT(out("0"), HasSubstr("warning: a stop takes about"));
  EXPECT_THAT(out("300"), AllOf(HasSubstr("a job that is to be stopped needs a signal"), Not(HasSubstr("warning"))));
}

TEST_F(ProgramPlan, AsJson_IsThePlanFileAndMore) {
  const json object = plan({"--profile", "titan-rtx-24gb", "--set", "offload.exp_avg=\"host\""});

  EXPECT_EQ(object.at("predicted").at("profile"), "titan-rtx-24gb");
  EXPECT_GT(object.at("predicted").at("seconds_per_step"), 0.0);
  EXPECT_GT(object.at("predicted").at("resources").at("pcie_up").at("bytes"), 0.0);
  EXPECT_GT(object.at("largest_batch").at("per_device_train_batch_size"), 4);
  EXPECT_GT(object.at("checkpoint").at("lead_seconds"), 0.0);
  EXPECT_TRUE(object.contains("ledger_of_one_rank"));
  EXPECT_EQ(object.at("numeric_signature").at("precision"), "fp16");  // no bf16 on that card
}

TEST_F(ProgramPlan, AnAutomaticBatch_IsTheFastestOfTheCard) {
  const auto step = [this](const std::string& batch) {
    const json object = plan({"--profile", "a10g-24gb", "--set", "train.global_batch_size=256", "--set",
                              "train.per_device_train_batch_size=" + batch});
    return object.at("predicted").at("seconds_per_step").get<double>();
  };

  const double chosen = step("auto");

  for (const char* batch : {"256", "64", "1"}) EXPECT_LE(chosen, step(batch)) << batch;
}

TEST_F(ProgramPlan, OfManyRanks_NeedsOneProcess) {
  const json one = plan({"--profile", "a100-40gb"});
  const json many = plan({"--profile", "a100-40gb", "--ranks", "16", "--set", "train.global_batch_size=64"});

  EXPECT_EQ(many.at("ranks"), 16);
  EXPECT_GT(many.at("predicted").at("resources").at("network").at("bytes"), 0.0);
  EXPECT_FALSE(one.at("predicted").at("resources").contains("network"));
}

TEST_F(ProgramPlan, WithoutAProfile_IsWhatTrainWouldDoHere) {
  const json here = plan({"--set", "train.device=\"cpu\""});
  const ProgramResult trained = place_.train(1, {"train.device=\"cpu\"", "train.max_steps=1"});
  ASSERT_EQ(trained.exit_code, 0) << describe(trained);
  const json executed = json::parse(place_.read("out/plan.json"));

  EXPECT_FALSE(here.contains("predicted"));
  EXPECT_EQ(here.at("step_program"), executed.at("step_program"));
  EXPECT_EQ(here.at("peak_bytes_of_one_rank").at("device"), executed.at("peak_bytes_of_one_rank").at("device"));
}

TEST_F(ProgramPlan, TheSavedProfile_IsTakenWithoutAskingAndTrainSaysWhatItPredicts) {
  const json card = plan({"--profile", "a10g-24gb"});
  ASSERT_TRUE(card.is_object());
  const ProgramResult printed = run({"plan", "run.toml"});
  EXPECT_THAT(printed.out, HasSubstr("not predicted"));
  // A profile as doctor writes one.
  place_.write("config/spillway/machine.json", R"({"version": 1, "name": "this machine", "gpu": null, "pcie": null,
    "host": {"memory_bytes": 8000000000, "cores": 2, "memory_rate": 1e10, "product_flops": 1e11, "adamw_rate": 1e8, "adamw_bf16_rate": 1e8, "adamw_int8_rate": 5e7,
             "source": "a test"},
    "nvme": null,
    "links": {"ranks_per_node": 1, "node_rate": 1e9, "network_rate": 0, "start_seconds": 0, "source": "a test"}})");

  EXPECT_EQ(plan({}).at("predicted").at("profile"), "this machine");
  ProgramCall call = place_.train_call(1, {"train.device=\"cpu\"", "train.max_steps=1"});
  call.environment["XDG_CONFIG_HOME"] = place_.path("config");
  const ProgramResult trained = run_program(call);
  ASSERT_EQ(trained.exit_code, 0) << describe(trained);
  EXPECT_EQ(json::parse(place_.read("out/plan.json")).at("predicted").at("bound_by"), "compute");
}

TEST_F(ProgramPlan, WhatDoesNotFit_EndsWithTheLedger) {
  const ProgramResult result =
      run({"plan", "run.toml", "--profile", "rtx4090-24gb", "--set", "memory.device=\"601MiB\""});

  EXPECT_EQ(result.exit_code, 3) << describe(result);
  EXPECT_THAT(result.err, AllOf(HasSubstr("memory.device allows 601.00 MiB"), HasSubstr("short by"),
                                HasSubstr("residuals and scratch")));
  EXPECT_THAT(result.out, IsEmpty());
}

TEST_F(ProgramPlan, AWrongProfile_IsRefused) {
  place_.write("broken.json", "{\"version\": 1}");

  const ProgramResult unknown = run({"plan", "run.toml", "--profile", "rtx3090"});
  const ProgramResult broken = run({"plan", "run.toml", "--profile", "broken.json"});
  const ProgramResult no_ranks = run({"plan", "run.toml", "--ranks", "0"});

  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("rtx3090-24gb"));
  EXPECT_EQ(broken.exit_code, 2);
  EXPECT_THAT(broken.err, HasSubstr("broken.json: name: this key is missing"));
  EXPECT_EQ(no_ranks.exit_code, 2);
}

TEST_F(ProgramPlan, UnderMpirun_IsSaidOnce) {
  const ProgramResult result = run({"plan", "run.toml", "--profile", "a100-40gb", "--json"}, 2);

  EXPECT_EQ(result.exit_code, 0) << describe(result);
  EXPECT_EQ(json::parse(result.out, nullptr, false).value("ranks", 0), 2) << describe(result);
}

}  // namespace
}  // namespace spillway::test
