// SPDX-License-Identifier: Apache-2.0
#include "train/job.hpp"

#include <gmock/gmock.h>

#include "core/error.hpp"
#include "core/text_file.hpp"
#include "support/scratch_directory.hpp"
#include "support/separate_device.hpp"
#include "support/thread_ranks.hpp"
#include "train/contents.hpp"
#include "train/trainee.hpp"

namespace spillway::test {
namespace {

using ::testing::HasSubstr;
using train::Purpose;
using train::RunOptions;
using train::TrainOptions;

class JobTest : public ::testing::Test {
 protected:
  JobTest() { write_training_folder(folder_.path()); }
  [[nodiscard]] RunOptions options() const { return training_options(folder_.path()); }
  [[nodiscard]] RunOptions adafactor() const {
    RunOptions made = options();
    made.optimizer = {.name = train::OptimizerName::adafactor};
    return made;
  }
  /// On one rank; \return the message of its ConfigError, "" if there is none.
  [[nodiscard]] std::string refusal(const RunOptions& options) const {
    try {
      (void)prepared(options, Purpose::train);
      return "";
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::config) << error.what();
      return error.what();
    }
  }
  [[nodiscard]] std::unique_ptr<train::Job> prepared(const RunOptions& options, Purpose purpose,
                                                     const std::vector<std::string>& eval_paths = {}) const {
    std::unique_ptr<train::Job> job;
    run_on_thread_ranks(1, [&](comm::Communicator& communicator) {
      const auto device = make_host_device();
      train::Runtime runtime{.device = *device, .communicator = communicator, .nodes = comm::NodeLayout::filled(1, 1)};
      job = train::prepare_job(options, purpose, runtime, {.batch = 2, .longest_source = 5}, eval_paths);
    });
    return job;
  }
  const ScratchDirectory folder_;
};

TEST_F(JobTest, AdafactorsKeys_AreRefusedWithAdamW) {
  RunOptions other = options();
  other.optimizer.relative_step = true;

  EXPECT_THAT(refusal(other), HasSubstr("optimizer.relative_step is Adafactor's"));
}

TEST_F(JobTest, WhoUpdates_FollowsTheDevice) {
  RunOptions asked = options();
  for (const train::OptimizerPlace place : {train::OptimizerPlace::gpu, train::OptimizerPlace::split}) {
    asked.offload.optimizer_on = place;
    EXPECT_THAT(refusal(asked), HasSubstr("need a GPU"));
  }
  asked.offload.optimizer_on = train::OptimizerPlace::cpu;
  EXPECT_EQ(refusal(asked), "");
}

TEST_F(JobTest, BesideAGpu_TheCpuUpdatesNothingOfAdafactors) {
  const auto communicator = comm::make_single_communicator();
  const auto device = make_separate_device();
  train::Runtime runtime{.device = *device, .communicator = *communicator, .nodes = comm::NodeLayout::filled(1, 1)};
  RunOptions asked = adafactor();
  asked.offload.master = train::TierChoice::host;
  asked.train.precision = train::Precision::bf16;

  const auto job = train::prepare_job(asked, Purpose::train, runtime);

  EXPECT_TRUE(job->plan.placement.uses(plan::kMasterKind, plan::Tier::host));
  EXPECT_TRUE(job->plan.placement.on_cpu.empty());
  for (const train::OptimizerPlace place : {train::OptimizerPlace::cpu, train::OptimizerPlace::split}) {
    asked.offload.optimizer_on = place;
    try {
      (void)train::prepare_job(asked, Purpose::train, runtime);
      ADD_FAILURE() << "it was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::config);
      EXPECT_THAT(error.what(), HasSubstr("are for AdamW"));
    }
  }
}

TEST_F(JobTest, KeysThatDoNothingWithAdafactor_AreRefused) {
  const auto refused = [&](const auto& change) {
    RunOptions other = adafactor();
    change(other);
    return refusal(other);
  };

  EXPECT_EQ(refused([](RunOptions&) {}), "");
  EXPECT_EQ(refused([](RunOptions& o) { o.optimizer.learning_rate = 1e-3; }), "");
  EXPECT_EQ(refused([](RunOptions& o) { o.optimizer.relative_step = true; }), "");
  EXPECT_THAT(refused([](RunOptions& o) { o.optimizer.betas = {0.8, 0.9}; }), HasSubstr("optimizer.betas is AdamW's"));
  EXPECT_THAT(refused([](RunOptions& o) { o.optimizer.eps = 1e-6; }), HasSubstr("optimizer.eps is AdamW's"));
  EXPECT_THAT(refused([](RunOptions& o) { o.offload.exp_avg = train::TierChoice::host; }),
              HasSubstr("offload.exp_avg is AdamW's"));
  EXPECT_THAT(refused([](RunOptions& o) { o.offload.exp_avg_sq = train::TierChoice::host; }),
              HasSubstr("offload.exp_avg_sq is AdamW's"));
  EXPECT_THAT(refused([](RunOptions& o) {
                o.optimizer.relative_step = true;
                o.optimizer.learning_rate = 1e-3;
              }),
              HasSubstr("optimizer.learning_rate: with optimizer.relative_step"));
  EXPECT_THAT(refused([](RunOptions& o) {
                o.optimizer.relative_step = true;
                o.schedule.warmup_steps = 5;
              }),
              HasSubstr("[schedule]: with optimizer.relative_step"));
}

TEST_F(JobTest, ReturnedSequencesOfTheModel_MatterOnlyForGenerate) {
  write_text(folder_.file("model/generation_config.json"), R"({"num_beams": 2, "num_return_sequences": 3})");
  const std::vector<std::string> pairs = {folder_.file("pairs")};

  for (const Purpose purpose : {Purpose::train, Purpose::evaluate})
    EXPECT_EQ(prepared(options(), purpose, pairs)->generation.options.num_return_sequences, 1);
  EXPECT_THROW((void)prepared(options(), Purpose::generate), Error);
}

TEST_F(JobTest, SettingsOfGeneration_AreNotLookedAtWhereNothingIsGenerated) {
  write_text(folder_.file("model/generation_config.json"), R"({"max_length": 4611686018427387904})");
  RunOptions loss_only = options();
  loss_only.eval.predict_with_generate = false;
  const std::vector<std::string> pairs = {folder_.file("pairs")};

  EXPECT_NO_THROW((void)prepared(options(), Purpose::train));
  EXPECT_NO_THROW((void)prepared(loss_only, Purpose::train, pairs));
  EXPECT_THROW((void)prepared(options(), Purpose::train, pairs), Error);
}

TEST_F(JobTest, ABatchThatDoesNotFit_IsRefusedWithTheLargestThatDoes) {
  RunOptions asked = options();
  asked.train.per_device_train_batch_size = asked.train.global_batch_size = 32;
  asked.train.gradient_checkpointing = train::GradientCheckpointing::off;
  const plan::Ledger whole = prepared(asked, Purpose::train)->plan.ledger;
  asked.memory.device = whole.peak(plan::Tier::device) * 2 / 3;
  const auto message_of = [&](std::int64_t batch) -> std::string {
    asked.train.per_device_train_batch_size = asked.train.global_batch_size = batch;
    try {
      (void)prepared(asked, Purpose::train);
      return "it fits";
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::plan) << error.what();
      return error.what();
    }
  };

  const std::string message = message_of(32);

  const std::string words = "the largest train.per_device_train_batch_size that fits is ";
  ASSERT_THAT(message, HasSubstr(words));
  const std::int64_t largest = std::stoll(message.substr(message.find(words) + words.size()));
  EXPECT_GT(largest, 1);
  EXPECT_EQ(message_of(largest), "it fits");
  EXPECT_THAT(message_of(largest + 1), HasSubstr("does not fit"));
}

TEST_F(JobTest, AnAutomaticBatch_IsTheLargestSplitThatFits) {
  RunOptions asked = options();
  asked.train.global_batch_size = 32;
  asked.train.gradient_checkpointing = train::GradientCheckpointing::off;
  const auto with = [&](std::int64_t batch) {
    asked.train.per_device_train_batch_size = batch;
    return prepared(asked, Purpose::train);
  };
  const plan::Ledger whole = with(TrainOptions::kFastestBatch)->plan.ledger;
  EXPECT_EQ(with(TrainOptions::kFastestBatch)->options.train.per_device_train_batch_size, 32);
  asked.memory.device = whole.peak(plan::Tier::device) * 2 / 3;
  std::int64_t largest = 32;
  for (int count = 2; count <= 32; ++count) {
    try {
      (void)with(largest);
      break;
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::plan) << error.what();
      largest = (32 + count - 1) / count;
    }
  }

  const auto job = with(TrainOptions::kFastestBatch);

  EXPECT_LT(largest, 32);
  EXPECT_EQ(job->options.train.per_device_train_batch_size, largest);
  EXPECT_EQ(job->micro_batches, (32 + largest - 1) / largest);
  EXPECT_EQ(job->global_batch_size, 32);
  asked.train.global_batch_size = 0;
  EXPECT_THROW((void)with(TrainOptions::kFastestBatch), Error);
}

TEST_F(JobTest, AnotherActivation_IsAnotherModel) {
  const auto contents = [&](const std::string& activation) {
    const std::string path = folder_.file("model/config.json");
    std::string text = read_text(path);
    const std::size_t at = text.find("\"feed_forward_proj\"");
    text.replace(at, text.find_first_of(",}\n", at) - at, "\"feed_forward_proj\": \"" + activation + "\"");
    write_text(path, text);
    return train::contents_of(*prepared(options(), Purpose::train)).at("model: activation");
  };

  EXPECT_EQ(contents("gated-gelu"), "gated gelu_new");
  EXPECT_EQ(contents("gated-silu"), "gated silu");
  EXPECT_EQ(contents("swish"), "silu");
  EXPECT_EQ(contents("relu"), "relu");
}

}  // namespace
}  // namespace spillway::test
