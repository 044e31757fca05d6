// SPDX-License-Identifier: Apache-2.0
// train.gradient_checkpointing = "host": without a GPU as "on", and the same bits wherever residuals spend their time.
#include <gtest/gtest.h>

#include "support/scratch_directory.hpp"
#include "train/long_run.hpp"
#include "train/trainee.hpp"

namespace spillway::test {
namespace {

using train::GradientCheckpointing;

/// Gives the job a plan whose first stages have their residuals pass through places, as on a GPU.
std::function<void(train::Job&)> with(plan::Shape shape) {
  return [shape](train::Job& job) {
    job.plan = plan::plan_of(job.facts, plan::place(job.facts, job.budgets, shape));
    EXPECT_GT(job.plan.ledger.bytes(plan::entry::kHostResiduals, plan::Tier::host), 0U);
  };
}

TEST(HostResiduals, OnTheCpu_AreThoseOfOn) {
  const ScratchDirectory folder;
  write_training_folder(folder.path());
  train::RunOptions options = training_options(folder.path());
  const auto communicator = comm::make_single_communicator();
  const auto ledger_of = [&](GradientCheckpointing checkpointing) {
    options.train.gradient_checkpointing = checkpointing;
    return Trainee(options, *communicator).job().plan.ledger;
  };

  const plan::Ledger host = ledger_of(GradientCheckpointing::host), on = ledger_of(GradientCheckpointing::on);

  EXPECT_EQ(host.bytes(plan::entry::kActivations), on.bytes(plan::entry::kActivations));
  EXPECT_EQ(host.bytes(plan::entry::kHostResiduals) + host.bytes(plan::entry::kResidualRing), 0U);
}

/// Stages: an embedding and two blocks, the encoder's end, an embedding and two blocks, the head.
TEST(HostResiduals, OfAnyNumberOfStages_InAnyGroups_GiveTheSameBits) {
  const ScratchDirectory folder;
  write_training_folder(folder.path());
  const train::RunOptions options = training_options(folder.path());
  const auto communicator = comm::make_single_communicator();
  for (const int group_size : {4, 3, 1}) {  // of four micro-batches
    const auto run = [&](const std::function<void(train::Job&)>& replan) {
      Trainee trainee(options, *communicator, {}, replan);
      trainee.run(3);
      return std::pair(trainee.hashes(), trainee.losses());
    };
    const auto expected = run([&](train::Job& job) {
      job.plan = plan::plan_of(job.facts, plan::place(job.facts, job.budgets, {.group_size = group_size}));
    });
    for (const auto& [first_kept_stage, host_stages] :
         {std::pair{2, 1}, {3, 2}, {6, 1}, {6, 3}, {8, 2}, {8, 3}, {8, 4}}) {
      SCOPED_TRACE(testing::Message() << group_size << ", " << first_kept_stage << ", " << host_stages);

      EXPECT_EQ(run(with({group_size, first_kept_stage, host_stages})), expected);
    }
  }
}

TEST(HostResiduals, OfSequencesOf2048Tokens_GiveTheSameBits) {
  const ScratchDirectory folder;
  write_long_texts(folder.path());

  const StateHashes expected = train_long(folder.path(), GradientCheckpointing::off);

  EXPECT_EQ(train_long(folder.path(), GradientCheckpointing::host), expected);
  EXPECT_EQ(train_long(folder.path(), GradientCheckpointing::host, with({2, 8, 4})), expected);
}

}  // namespace
}  // namespace spillway::test
