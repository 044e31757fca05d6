// SPDX-License-Identifier: Apache-2.0
#include "plan/plan.hpp"

#include <algorithm>

#include <gmock/gmock.h>

#include "core/error.hpp"

namespace spillway::plan {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr std::size_t kMiB = std::size_t{1} << 20;
enum Kind : std::size_t { kWeight, kMaster, kExpAvg, kExpAvgSq };

/// Of one rank of two. Units of 8 (persistent), 4 and 6 MiB gathered, half of each owned: weights, gradients and each moment take 9 MiB
/// in extents of one.
JobFacts job_facts(int micro_batches = 4) {
  JobFacts job;
  job.program = {.stage_units = {0, 1, 0, 0, 2, 0},
                 .stage_backward = {},
                 .units = {{.persistent = true}, {}, {}},
                 .micro_batches = micro_batches,
                 .group_size = micro_batches};
  const std::vector<std::size_t> each(9, kMiB), none(9, 0);
  job.kinds = {{.name = "weight", .bytes = each, .memory_bytes = each, .wish = {}},
               {.name = "master", .bytes = none, .memory_bytes = none, .wish = {}, .leaves = 1},
               {.name = "exp_avg", .bytes = each, .memory_bytes = each, .wish = {}, .leaves = 2},
               {.name = "exp_avg_sq", .bytes = each, .memory_bytes = each, .wish = {}, .leaves = 2},
               {.name = entry::kGrad, .bytes = each, .memory_bytes = each, .wish = {}}};
  job.extent_units = {0, 0, 0, 0, 1, 1, 2, 2, 2};
  job.ring_slots = 2;
  job.gathers_weights = true;
  job.gathered_bytes = {8 * kMiB, 4 * kMiB, 6 * kMiB};
  job.weight_staging_bytes = kMiB;
  job.gradient_bytes = 20 * kMiB;
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

/// A letter for each extent of a kind, the tier's first.
std::string tiers_of(const Plan& plan, Kind kind) {
  std::string text;
  for (const Tier tier : plan.placement.tiers[kind]) text += name_of(tier)[0];
  return text;
}

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
  EXPECT_EQ(tiers_of(plan, kExpAvg), "ddddddddd");
  EXPECT_EQ(tiers_of(plan, kExpAvgSq), "ddddddddd");
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
  EXPECT_EQ(tiers_of(plan, kExpAvg), "ddddddddd");
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
  EXPECT_EQ(tiers_of(all_again, kExpAvg), "ddddddddd");  // before state moves away
}

TEST(MakePlan, CheckpointingThatIsAskedFor_RunsAllStagesAgain) {
  JobFacts job = job_facts();
  job.checkpointing = Checkpointing::on;

  const Plan plan = make_plan(job, plenty());

  EXPECT_EQ(plan.first_kept_stage, 3);
  EXPECT_EQ(plan.program.group_size, 4);
  EXPECT_EQ(plan.ledger.bytes(entry::kActivations), (4 * 4 + 3) * kMiB);
}

TEST(MakePlan, ResidualsAskedForInHostMemory_LeaveAFewPlacesOnAGpu) {
  JobFacts job = job_facts();
  job.checkpointing = Checkpointing::host;
  job.gpu.present = true;

  const Plan plan = make_plan(job, plenty());

  EXPECT_EQ(plan.first_kept_stage, 3);
  EXPECT_EQ(plan.host_stages, 2);
  EXPECT_EQ(plan.program.group_size, 4);
  EXPECT_EQ(plan.stage_bytes(job), (std::vector<std::size_t>{2 * kMiB, 0, 0}));
  EXPECT_EQ(plan.host_stage_bytes(job), (std::vector<std::size_t>{0, kMiB, kMiB}));
  EXPECT_EQ(plan.ledger.bytes(entry::kActivations, Tier::device), (4 * 2 + 3) * kMiB);
  EXPECT_EQ(plan.ledger.bytes(entry::kResidualRing, Tier::device), (4 + 2) * kMiB);
  EXPECT_EQ(plan.ledger.bytes(entry::kHostResiduals, Tier::host), 4 * 2 * kMiB);
}

TEST(MakePlan, ResidualsAskedForInHostMemory_StayWhereTheyAreWithoutAGpu) {
  JobFacts job = job_facts();
  job.checkpointing = Checkpointing::host;

  const Plan plan = make_plan(job, plenty());

  EXPECT_EQ(plan.first_kept_stage, 3);
  EXPECT_EQ(plan.host_stages, 0);
  EXPECT_EQ(plan.ledger.bytes(entry::kActivations), (4 * 4 + 3) * kMiB);
  EXPECT_EQ(plan.ledger.bytes(entry::kHostResiduals) + plan.ledger.bytes(entry::kResidualRing), 0U);
}

/// A GPU's job of ten stages that keep a MiB each if they run again.
JobFacts long_job() {
  JobFacts job = job_facts(1);
  job.gpu.present = true;
  job.checkpointing = Checkpointing::as_needed;
  job.kept_bytes.assign(11, 7 * kMiB);
  job.recomputed_bytes.assign(11, kMiB);
  job.recomputed_bytes.front() = job.kept_bytes.front() = 0;
  return job;
}

TEST(MakePlan, WhatFitsOnlyWithResidualsInHostMemory_HasThemThere) {
  JobFacts job = long_job();
  job.kinds[kExpAvg].wish = job.kinds[kExpAvgSq].wish = Tier::device;
  Budgets budgets = plenty();
  const std::size_t again = place(job, plenty(), {.group_size = 1, .first_kept_stage = 11}).ledger.peak(Tier::device);

  budgets.device = again;
  const Plan near = make_plan(job, budgets);
  budgets.device = again - kMiB;
  const Plan away = make_plan(job, budgets);

  EXPECT_EQ(near.host_stages, 0);
  EXPECT_EQ(away.first_kept_stage, 11);
  EXPECT_EQ(away.host_stages, 5);  // an eighth less frees nothing but the three places
  EXPECT_EQ(away.ledger.bytes(entry::kResidualRing), 3 * kMiB);
  EXPECT_EQ(away.ledger.bytes(entry::kHostResiduals), 5 * kMiB);
  EXPECT_LE(away.ledger.peak(Tier::device), *budgets.device);
}

TEST(MakePlan, WhatLacksHostMemoryForResiduals_IsRefusedWithTheLedgerThatHasThem) {
  JobFacts job = long_job();
  job.kinds[kExpAvg].wish = job.kinds[kExpAvgSq].wish = Tier::device;
  job.checkpointing = Checkpointing::host;
  Budgets budgets = plenty();
  budgets.host = make_plan(job, plenty()).ledger.peak(Tier::host) - kMiB;

  EXPECT_THAT(refusal(job, budgets),
              AllOf(HasSubstr("short by 1.00 MiB"), HasSubstr("host     residuals in host memory"),
                    HasSubstr("device   ring of residuals")));
}

TEST(MakePlan, WhatDoesNotEvenFitWithResidualsInHostMemory_IsMeasuredAgainstThatPlan) {
  JobFacts job = long_job();
  job.kinds[kExpAvg].wish = job.kinds[kExpAvgSq].wish = Tier::device;
  Budgets budgets = plenty();
  const Shape least{.group_size = 1, .first_kept_stage = 11, .host_stages = 10};
  budgets.device = place(job, plenty(), least).ledger.peak(Tier::device) - kMiB;

  EXPECT_THAT(refusal(job, budgets),
              AllOf(HasSubstr("device: needs"), HasSubstr("short by 1.00 MiB"), HasSubstr("residuals in host memory")));
}

TEST(Shapes, WithResidualsInHostMemory_AreFewAndComeLast) {
  JobFacts job = long_job();
  job.program.micro_batches = job.program.group_size = 8;

  const std::vector<Shape> all = shapes(job);
  const auto first = std::ranges::find_if(all, [](const Shape& shape) { return shape.host_stages > 0; });

  EXPECT_EQ(first - all.begin(), 8 + 10);
  EXPECT_TRUE(std::all_of(first, all.end(), [](const Shape& shape) { return shape.host_stages > 0; }));
  EXPECT_LE(all.end() - first, 8 + 7 + 3);
  EXPECT_NE(std::find(first, all.end(), (Shape{8, 11, 10})), all.end());
  job.gpu.present = false;
  EXPECT_EQ(shapes(job).size(), 8U + 10U);
}

TEST(MakePlan, AWish_IsFollowedAlthoughNearerTiersHaveRoom) {
  JobFacts job = job_facts();
  job.kinds[kExpAvg].wish = Tier::nvme;
  job.kinds[kExpAvgSq].wish = Tier::host;

  const Plan plan = make_plan(job, plenty());

  EXPECT_EQ(tiers_of(plan, kExpAvg), "nnnnnnnnn");
  EXPECT_EQ(tiers_of(plan, kExpAvgSq), "hhhhhhhhh");
  EXPECT_EQ(plan.ledger.bytes(entry::kRing), 2 * kMiB);
}

TEST(MakePlan, AWishForOneMoment_LeavesTheOtherToThePlan) {
  JobFacts job = job_facts();
  job.kinds[kExpAvgSq].wish = Tier::nvme;

  const Plan plan = make_plan(job, plenty());

  EXPECT_EQ(tiers_of(plan, kExpAvg), "ddddddddd");
  EXPECT_EQ(tiers_of(plan, kExpAvgSq), "nnnnnnnnn");
}

TEST(MakePlan, WeightsOnNvme_AreReadIntoPlacesOfTheirOwn) {
  JobFacts job = job_facts();
  job.gathers_weights = false;
  job.kinds[kWeight].wish = Tier::nvme;

  const Plan plan = make_plan(job, plenty());

  EXPECT_EQ(tiers_of(plan, kWeight), "nnnnnnnnn");
  EXPECT_EQ(tiers_of(plan, kExpAvg), "ddddddddd");
  EXPECT_EQ(plan.ledger.bytes(entry::kGathered), 20 * kMiB);
  EXPECT_EQ(plan.ledger.bytes(entry::kWeightStaging), kMiB);
  EXPECT_EQ(plan.ledger.bytes(entry::kRing), 2 * kMiB);
}

TEST(MakePlan, ForEvaluation_HoldsNoTrainingState) {
  JobFacts job = job_facts();
  job.training = false;
  for (const Kind kind : {kExpAvg, kExpAvgSq})
    job.kinds[kind].bytes = job.kinds[kind].memory_bytes = std::vector<std::size_t>(9, 0);
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
                    HasSubstr("device   weight"), HasSubstr("device   total"),
                    HasSubstr("it would fit with 96 MiB of device memory (memory.device)\n")));
}

TEST(MakePlan, WhatDoesNotFitInHostMemory_IsRefusedWithTheSourceOfTheBudget) {
  JobFacts job = job_facts(1);
  job.kinds[kExpAvg].wish = job.kinds[kExpAvgSq].wish = Tier::host;
  Budgets budgets = plenty();
  budgets.host = 100 * kMiB;

  EXPECT_THAT(refusal(job, budgets),
              AllOf(HasSubstr("host: needs 117.00 MiB"), HasSubstr("memory.host allows 100.00 MiB: short by 17.00 MiB"),
                    HasSubstr("it would fit with 117 MiB of memory (memory.host)\n")));
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

  EXPECT_THAT(refusal(job, budgets),
              AllOf(HasSubstr("nvme: needs 18.00 MiB, disks allows 16.00 MiB: short by 2.00 MiB"),
                    HasSubstr("it would fit with 18 MiB in offload.nvme_dirs (memory.nvme)\n")));
}

TEST(MakePlan, WhatFitsNowhere_IsRefusedWithTheSmallestPlan) {
  Budgets budgets = plenty();
  budgets.host = 50 * kMiB;

  // One micro-batch at a time, both moments on nvme.
  EXPECT_THAT(refusal(job_facts(), budgets), AllOf(HasSubstr("host: needs "), HasSubstr("nvme     exp_avg_sq")));
}

TEST(MakePlan, WhatIsLeftOver_IsRefusedWithEveryTierThatCouldTakeIt) {
  JobFacts job = job_facts(1);
  Budgets budgets = plenty();
  budgets.device = make_plan(job, plenty()).ledger.peak(Tier::device) - 6 * kMiB;
  budgets.host = make_plan(job, plenty()).ledger.peak(Tier::host) + *budgets.device + 2 * kMiB;
  budgets.nvme = 0;
  budgets.ranks = 2;

  // One extent of both moments in host memory, two for which there is no place.
  EXPECT_THAT(refusal(job, budgets),
              AllOf(HasSubstr("nvme: needs 8.00 MiB, but there is no nvme tier"),
                    HasSubstr("it would fit with 234 MiB of memory for the 2 ranks of a node (memory.host), or with "
                              "16 MiB in offload.nvme_dirs for the 2 ranks of a node (memory.nvme)\n")));
}

TEST(Candidates, AreAllShapesThatFit_EachWithItsPlacement) {
  JobFacts job = job_facts(2);
  job.checkpointing = Checkpointing::as_needed;
  Budgets budgets = plenty();
  budgets.device = make_plan(job, plenty()).ledger.peak(Tier::device) - 3 * kMiB;

  const std::vector<Candidate> fitting = candidates(job, budgets);

  ASSERT_EQ(fitting.size(), shapes(job).size());
  EXPECT_EQ(fitting[0].shape, (Shape{2, 0}));
  EXPECT_EQ(fitting[0].placement.bytes_outside(job), 4 * kMiB);
  EXPECT_EQ(fitting[1].shape, (Shape{1, 0}));
  EXPECT_EQ(fitting[1].placement.bytes_outside(job), 0U);  // a micro-batch less, the sums of two groups more
  EXPECT_EQ(make_plan(job, budgets).program.group_size, 1);
  for (const Candidate& candidate : fitting)
    EXPECT_LE(candidate.ledger.peak(Tier::device), *budgets.device) << candidate.shape.first_kept_stage;
}

TEST(MakePlan, WhereStateMustLeaveTheDevice_RunsStagesAgainToKeepMoreOfItThere) {
  JobFacts job = job_facts(1);
  job.checkpointing = Checkpointing::as_needed;
  Budgets budgets = plenty();
  budgets.device = make_plan(job, plenty()).ledger.peak(Tier::device) - 16 * kMiB;

  const Plan plan = make_plan(job, budgets);

  EXPECT_EQ(plan.first_kept_stage, 3);  // 12 MiB of activations less
  EXPECT_EQ(tiers_of(plan, kExpAvg), "dddddddhh");
}

}  // namespace
}  // namespace spillway::plan
