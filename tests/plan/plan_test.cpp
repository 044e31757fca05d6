// SPDX-License-Identifier: Apache-2.0
#include "plan/plan.hpp"

#include <gmock/gmock.h>

#include "core/error.hpp"

namespace spillway::plan {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr std::size_t kMiB = std::size_t{1} << 20;
enum Kind : std::size_t { kWeight, kMaster, kExpAvg, kExpAvgSq };

/// Of one rank of two. Units of 8 (persistent), 4 and 6 MiB gathered, half of each owned: weights, gradients and each moment take 9 MiB.
JobFacts job_facts(int micro_batches = 4) {
  JobFacts job;
  job.program = {.stage_units = {0, 1, 0, 0, 2, 0},
                 .stage_backward = {},
                 .units = {{.persistent = true}, {}, {}},
                 .micro_batches = micro_batches,
                 .group_size = micro_batches};
  job.kinds = {
      {.name = "weight", .bytes = 9 * kMiB, .nvme_bytes = 9 * kMiB, .ring_bytes = 2 * kMiB},
      {.name = "master"},
      {.name = "exp_avg", .bytes = 9 * kMiB, .nvme_bytes = 9 * kMiB, .ring_bytes = 2 * kMiB, .spills = true},
      {.name = "exp_avg_sq", .bytes = 9 * kMiB, .nvme_bytes = 9 * kMiB, .ring_bytes = 2 * kMiB, .spills = true}};
  job.gathers_weights = true;
  job.gathered_bytes = 20 * kMiB;
  job.weight_staging_bytes = kMiB;
  job.gradient_bytes = 20 * kMiB;
  job.grad_bytes = 9 * kMiB;
  job.group_sum_bytes = 8 * kMiB;
  job.program_bytes = 10 * kMiB;
  job.data_bytes = 2 * kMiB;
  job.kept_bytes = {2 * kMiB, 7 * kMiB, 7 * kMiB};
  job.recomputed_bytes = {2 * kMiB, kMiB, kMiB};
  job.checkpointing = Checkpointing::off;
  job.scratch_bytes = 3 * kMiB;
  job.batch_bytes = kMiB;
  job.reduce_bytes = 5 * kMiB;
  job.staging_bytes = 4 * kMiB;
  return job;
}

Budgets plenty() {
  return {.device = {}, .host = 1000 * kMiB, .nvme = 1000 * kMiB, .host_source = "memory.host", .nvme_source = "disks"};
}

/// What the job takes whose micro-batches all fit into one group: 2 · 16 + 3 MiB of activations and so on.
constexpr std::size_t kDevice = (9 + 20 + 20 + 9 + 9 + 9 + 67 + 4) * kMiB;
constexpr std::size_t kHost = (10 + 2 + 5 + 4) * kMiB;

std::string refusal(const JobFacts& job, const Budgets& budgets) {
  try {
    (void)make_plan(job, budgets);
  } catch (const PlanError& error) {
    return error.what();
  }
  return "no error";
}

TEST(MakePlan, WithPlenty_RunsOneGroupAndKeepsMomentsOnTheDevice) {
  const Plan plan = make_plan(job_facts(), plenty());

  EXPECT_EQ(plan.program.group_size, 4);
  EXPECT_EQ(plan.program.groups, 1);
  EXPECT_EQ(plan.tiers[kExpAvg], Tier::device);
  EXPECT_EQ(plan.tiers[kExpAvgSq], Tier::device);
  EXPECT_EQ(plan.ledger.bytes("weight"), 9 * kMiB);
  EXPECT_EQ(plan.ledger.bytes(entry::kGathered), 20 * kMiB);
  EXPECT_EQ(plan.ledger.bytes(entry::kGradients), 20 * kMiB);
  EXPECT_EQ(plan.ledger.bytes(entry::kGrad), 9 * kMiB);
  EXPECT_EQ(plan.ledger.bytes("exp_avg"), 9 * kMiB);
  EXPECT_EQ(plan.ledger.bytes("exp_avg_sq"), 9 * kMiB);
  EXPECT_EQ(plan.ledger.bytes(entry::kActivations), (4 * 16 + 3) * kMiB);
  EXPECT_EQ(plan.ledger.bytes(entry::kBatches), 4 * kMiB);
  EXPECT_EQ(plan.ledger.bytes(entry::kRing), 0U);
  EXPECT_EQ(plan.ledger.peak(Tier::device), kDevice);
  EXPECT_EQ(plan.ledger.peak(Tier::host), kHost);
}

TEST(MakePlan, WithReplicatedWeights_GathersNothing) {
  JobFacts job = job_facts();
  job.gathers_weights = false;

  EXPECT_EQ(make_plan(job, plenty()).ledger.bytes(entry::kGathered), 0U);
}

TEST(MakePlan, TheBudgetThatIsJustEnough_IsEnough) {
  Budgets budgets = plenty();
  budgets.device = kDevice;
  budgets.host = kDevice + kHost;

  EXPECT_EQ(make_plan(job_facts(), budgets).program.group_size, 4);
}

TEST(MakePlan, AGroupThatDoesNotFit_Shrinks) {
  Budgets budgets = plenty();
  budgets.device = kDevice - 1;

  const Plan plan = make_plan(job_facts(), budgets);

  // Three do not fit either if the sums of several groups take as much as a micro-batch.
  EXPECT_EQ(plan.ledger.bytes(entry::kGradientSums), 8 * kMiB);
  EXPECT_EQ(plan.program.group_size, 3);
  EXPECT_EQ(plan.program.groups, 2);
  EXPECT_EQ(plan.ledger.bytes(entry::kActivations), (3 * 16 + 3) * kMiB);
  EXPECT_EQ(plan.ledger.bytes(entry::kBatches), 3 * kMiB);
  EXPECT_EQ(plan.tiers[kExpAvg], Tier::device);
  EXPECT_LE(plan.ledger.peak(Tier::device), *budgets.device);
}

TEST(MakePlan, ActivationsThatDoNotFit_AreKeptOfAsManyStagesAsDo) {
  JobFacts job = job_facts();
  job.checkpointing = Checkpointing::as_needed;
  Budgets budgets = plenty();
  const std::size_t one_micro_batch = kDevice - 3 * (16 + 1) * kMiB + 8 * kMiB;  // with sums over groups
  budgets.device = one_micro_batch;

  const Plan kept = make_plan(job, budgets);
  budgets.device = one_micro_batch - 1;
  const Plan one_again = make_plan(job, budgets);
  budgets.device = one_micro_batch - 12 * kMiB;
  const Plan all_again = make_plan(job, budgets);

  EXPECT_EQ(kept.first_kept_stage, 0);
  EXPECT_EQ(one_again.first_kept_stage, 2);  // the first stage keeps no more than it needs to run again
  EXPECT_EQ(one_again.program.group_size, 1);
  EXPECT_EQ(one_again.ledger.bytes(entry::kActivations), (16 - 6 + 3) * kMiB);
  EXPECT_EQ(one_again.stage_bytes(job), (std::vector<std::size_t>{2 * kMiB, kMiB, 7 * kMiB}));
  EXPECT_EQ(all_again.first_kept_stage, 3);
  EXPECT_EQ(all_again.tiers[kExpAvg], Tier::device);  // before state moves away
}

TEST(MakePlan, CheckpointingThatIsAskedFor_RunsAllStagesAgain) {
  JobFacts job = job_facts();
  job.checkpointing = Checkpointing::on;

  const Plan plan = make_plan(job, plenty());

  EXPECT_EQ(plan.first_kept_stage, 3);
  EXPECT_EQ(plan.program.group_size, 4);
  EXPECT_EQ(plan.ledger.bytes(entry::kActivations), (4 * 4 + 3) * kMiB);
}

TEST(MakePlan, MomentsThatDoNotFitOnTheDevice_GoToTheHost) {
  JobFacts job = job_facts(1);
  Budgets budgets = plenty();
  budgets.device = make_plan(job, plenty()).ledger.peak(Tier::device) - 1;

  const Plan plan = make_plan(job, budgets);

  EXPECT_EQ(plan.tiers[kExpAvg], Tier::host);
  EXPECT_EQ(plan.tiers[kExpAvgSq], Tier::host);
  EXPECT_EQ(plan.ledger.total(Tier::host, Phase::step), kHost + 18 * kMiB);
  EXPECT_EQ(plan.ledger.bytes(entry::kRing), 0U);
}

TEST(MakePlan, MomentsThatDoNotFitInHostMemory_GoToNvmeWithARing) {
  JobFacts job = job_facts(1);
  const Ledger all = make_plan(job, plenty()).ledger;
  Budgets budgets = plenty();
  budgets.host = all.peak(Tier::device) + all.peak(Tier::host) - 1;

  const Plan plan = make_plan(job, budgets);

  EXPECT_EQ(plan.tiers[kExpAvg], Tier::nvme);
  EXPECT_EQ(plan.tiers[kExpAvgSq], Tier::nvme);
  EXPECT_EQ(plan.ledger.peak(Tier::nvme), 18 * kMiB);
  EXPECT_EQ(plan.ledger.bytes(entry::kRing), 4 * kMiB);
}

TEST(MakePlan, AWish_IsFollowedAlthoughNearerTiersHaveRoom) {
  JobFacts job = job_facts();
  job.kinds[kExpAvg].wish = Tier::nvme;
  job.kinds[kExpAvgSq].wish = Tier::host;

  const Plan plan = make_plan(job, plenty());

  EXPECT_EQ(plan.tiers[kExpAvg], Tier::nvme);
  EXPECT_EQ(plan.tiers[kExpAvgSq], Tier::host);
  EXPECT_EQ(plan.ledger.bytes(entry::kRing), 2 * kMiB);
}

TEST(MakePlan, AWishForOneMoment_LeavesTheOtherToThePlan) {
  JobFacts job = job_facts();
  job.kinds[kExpAvgSq].wish = Tier::nvme;

  const Plan plan = make_plan(job, plenty());

  EXPECT_EQ(plan.tiers[kExpAvg], Tier::device);
  EXPECT_EQ(plan.tiers[kExpAvgSq], Tier::nvme);
}

TEST(MakePlan, WeightsOnNvme_AreReadIntoPlacesOfTheirOwn) {
  JobFacts job = job_facts();
  job.gathers_weights = false;
  job.kinds[kWeight].wish = Tier::nvme;

  const Plan plan = make_plan(job, plenty());

  EXPECT_EQ(plan.tiers[kWeight], Tier::nvme);
  EXPECT_EQ(plan.tiers[kExpAvg], Tier::device);
  EXPECT_EQ(plan.ledger.bytes(entry::kGathered), 20 * kMiB);
  EXPECT_EQ(plan.ledger.bytes(entry::kWeightStaging), kMiB);
  EXPECT_EQ(plan.ledger.bytes(entry::kRing), 2 * kMiB);
}

TEST(MakePlan, ForEvaluation_HoldsNoTrainingState) {
  JobFacts job = job_facts();
  job.training = false;
  job.kinds[kExpAvg].bytes = job.kinds[kExpAvgSq].bytes = 0;
  job.evaluation_bytes = 7 * kMiB;
  job.generation_bytes = 6 * kMiB;

  const Plan plan = make_plan(job, plenty());

  for (const char* name :
       {entry::kGradients, entry::kGrad, "exp_avg", "exp_avg_sq", entry::kRing, entry::kReduce, entry::kStaging})
    EXPECT_EQ(plan.ledger.bytes(name), 0U) << name;
  EXPECT_EQ(plan.ledger.bytes(entry::kActivations), 7 * kMiB);
  EXPECT_EQ(plan.ledger.bytes(entry::kGeneration), 6 * kMiB);
}

TEST(MakePlan, EvaluationAndSteps_ShareTheirActivations) {
  JobFacts job = job_facts(1);
  job.evaluation_bytes = 50 * kMiB;

  EXPECT_EQ(make_plan(job, plenty()).ledger.bytes(entry::kActivations), 50 * kMiB);
}

TEST(MakePlan, WhatDoesNotFitOnTheDevice_IsRefusedWithTheShortageAndTheLedger) {
  JobFacts job = job_facts(1);
  job.kinds[kExpAvg].wish = job.kinds[kExpAvgSq].wish = Tier::device;
  Budgets budgets = plenty();
  budgets.device = make_plan(job, plenty()).ledger.peak(Tier::device) - 3 * kMiB;

  EXPECT_THAT(refusal(job, budgets),
              AllOf(HasSubstr("device: needs 96.00 MiB, memory.device allows 93.00 MiB: short by 3.00 MiB"),
                    HasSubstr("device   weight"), HasSubstr("device   total")));
}

TEST(MakePlan, WhatDoesNotFitInHostMemory_IsRefusedWithTheSourceOfTheBudget) {
  JobFacts job = job_facts(1);
  job.kinds[kExpAvg].wish = job.kinds[kExpAvgSq].wish = Tier::host;
  Budgets budgets = plenty();
  budgets.host = 100 * kMiB;

  EXPECT_THAT(refusal(job, budgets), AllOf(HasSubstr("host: needs 117.00 MiB"),
                                           HasSubstr("memory.host allows 100.00 MiB: short by 17.00 MiB")));
}

TEST(MakePlan, NvmeThatIsNotThere_IsRefusedWithWhatToSet) {
  JobFacts job = job_facts(1);
  job.kinds[kExpAvg].wish = Tier::nvme;
  job.kinds[kExpAvgSq].wish = Tier::device;
  Budgets budgets = plenty();
  budgets.nvme = 0;
  budgets.nvme_source = "set offload.nvme_dirs";

  EXPECT_THAT(refusal(job, budgets),
              HasSubstr("nvme: needs 9.00 MiB, but there is no nvme tier: set offload.nvme_dirs"));
}

TEST(MakePlan, NvmeThatIsTooSmall_IsRefusedWithTheShortage) {
  JobFacts job = job_facts(1);
  job.kinds[kExpAvg].wish = job.kinds[kExpAvgSq].wish = Tier::nvme;
  Budgets budgets = plenty();
  budgets.nvme = 16 * kMiB;

  EXPECT_THAT(refusal(job, budgets), HasSubstr("nvme: needs 18.00 MiB, disks allows 16.00 MiB: short by 2.00 MiB"));
}

TEST(MakePlan, WhatFitsNowhere_IsRefusedWithTheSmallestPlan) {
  Budgets budgets = plenty();
  budgets.host = 50 * kMiB;

  // One micro-batch at a time, both moments on nvme.
  EXPECT_THAT(refusal(job_facts(), budgets), AllOf(HasSubstr("host: needs "), HasSubstr("nvme     exp_avg_sq")));
}

}  // namespace
}  // namespace spillway::plan
