// SPDX-License-Identifier: Apache-2.0
#include "plan/fastest.hpp"

#include <gtest/gtest.h>

#include "core/error.hpp"

namespace spillway::plan {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

/// One block on a GPU: its activations take 8 MiB if they are kept, and its moments 8 MiB in four extents, which need a place of 2 MiB if
/// they are in host memory. The device has 10 MiB.
struct Choice {
  Choice() {
    const std::vector<std::size_t> none(5), moments = {0, 2 * kMiB, 2 * kMiB, 2 * kMiB, 2 * kMiB};
    facts.program = {.stage_units = {0, 1, 0}, .stage_backward = {}, .units = {{.persistent = true}, {}}};
    facts.kinds = {{.name = "weight", .bytes = none, .memory_bytes = none},
                   {.name = "master", .bytes = none, .memory_bytes = none},
                   {.name = "exp_avg", .bytes = moments, .memory_bytes = moments, .leaves = 2}};
    facts.extent_units = {0, 1, 1, 1, 1};
    facts.link_places = 1;
    facts.kept_bytes = {0, 8 * kMiB, 0};
    facts.recomputed_bytes = {0, 0, 0};
    facts.gpu.present = true;
    budgets = {.device = 10 * kMiB, .host = 64 * kMiB, .nvme = 0};
    costs.gpu = true;
    costs.product = ProductType::fp16;
    costs.stages.resize(3);
    costs.stages[1] = {
        .forward = {.product_flops = 1e9}, .recompute = {.product_flops = 1e9}, .backward = {.product_flops = 2e9}};
    costs.units.resize(2);
    costs.units.front().persistent = true;
    profile = named_profile("titan-rtx-24gb");
  }
  [[nodiscard]] PredictedPlan chosen() const { return fastest_plan(facts, budgets, costs, &profile); }
  JobFacts facts;
  Budgets budgets;
  StepCosts costs;
  MachineProfile profile;
};

TEST(FastestPlan, WithASlowLink_RunsBlocksAgainAndKeepsStateNear) {
  const Choice choice;

  const PredictedPlan chosen = choice.chosen();

  EXPECT_TRUE(chosen.plan.placement.uses(2, Tier::device));
  EXPECT_GT(chosen.plan.first_kept_stage, 1);
  ASSERT_TRUE(chosen.prediction);
  EXPECT_EQ(chosen.prediction->use(Resource::pcie_up).bytes, 0.0);
}

TEST(FastestPlan, WithAFastLink_KeepsActivationsAndMovesState) {
  Choice choice;
  choice.profile.pcie = PcieProfile{.up_rate = 1e15, .down_rate = 1e15, .both_rate = 1e15};
  choice.profile.host.memory_rate = 1e15;

  const PredictedPlan chosen = choice.chosen();

  EXPECT_TRUE(chosen.plan.placement.uses(2, Tier::host));
  EXPECT_EQ(chosen.plan.first_kept_stage, 0);
  EXPECT_EQ(chosen.prediction->use(Resource::pcie_up).bytes, 8.0 * kMiB);
}

TEST(FastestPlan, OfTwoAboutAsFast_TakesTheOneWithLessOutsideTheDevice) {
  Choice choice;
  choice.profile.pcie = PcieProfile{.up_rate = 1e15, .down_rate = 1e15, .both_rate = 1e15};
  choice.profile.host.memory_rate = 1e15;
  choice.profile.gpu->adamw_rate = 1e15;
  choice.costs.stages[1].recompute.product_flops = 0.017 * 3e9;

  const PredictedPlan chosen = choice.chosen();

  EXPECT_TRUE(chosen.plan.placement.uses(2, Tier::device));
  EXPECT_GT(chosen.plan.first_kept_stage, 1);
  EXPECT_EQ(chosen.prediction->use(Resource::pcie_up).bytes, 0.0);
}

/// Sixteen blocks on a GPU that would take 1 MiB each if they run again and have moments of 2 MiB, in 24 MiB.
Choice many_blocks(double flops) {
  constexpr std::size_t kBlocks = 16;
  Choice choice;
  JobFacts& facts = choice.facts;
  facts.program.stage_units = facts.extent_units = {0};
  facts.kept_bytes = facts.recomputed_bytes = {0};
  for (std::size_t block = 1; block <= kBlocks; ++block) {
    facts.program.stage_units.push_back(static_cast<int>(block));
    facts.extent_units.push_back(static_cast<int>(block));
    facts.kept_bytes.push_back(8 * kMiB);
    facts.recomputed_bytes.push_back(kMiB);
  }
  facts.program.stage_units.push_back(0);
  facts.kept_bytes.push_back(0);
  facts.recomputed_bytes.push_back(0);
  facts.program.units.resize(kBlocks + 1);
  for (std::size_t kind = 0; kind < facts.kinds.size(); ++kind) {
    facts.kinds[kind].bytes.assign(kBlocks + 1, kind == 2 ? 2 * kMiB : 0);
    facts.kinds[kind].bytes.front() = 0;
    facts.kinds[kind].memory_bytes = facts.kinds[kind].bytes;
  }
  choice.budgets.device = 24 * kMiB;
  const StageCosts block{.forward = {.product_flops = flops},
                         .recompute = {.product_flops = flops},
                         .backward = {.product_flops = 2 * flops},
                         .residual_bytes = 1.0 * kMiB};
  choice.costs.stages.assign(kBlocks + 2, block);
  choice.costs.stages.front() = choice.costs.stages.back() = {};
  choice.costs.units.resize(kBlocks + 1);
  return choice;
}

TEST(FastestPlan, WhereUpdatesAreWaitedFor_ResidualsThatMoveUnderTheStagesMakeRoomForState) {
  const Choice choice = many_blocks(1e10);

  const PredictedPlan chosen = choice.chosen();
  const Plan plan = make_plan(choice.facts, choice.budgets);

  EXPECT_GT(chosen.plan.host_stages, 0);
  EXPECT_LT(chosen.plan.placement.bytes_outside(choice.facts), plan.placement.bytes_outside(choice.facts));
  EXPECT_EQ(plan.host_stages, 0);  // without rates: they free less than they move
}

TEST(FastestPlan, WhereResidualsWouldBeWaitedFor_TheyStay) {
  const Choice choice = many_blocks(1e6);

  EXPECT_EQ(choice.chosen().plan.host_stages, 0);
}

/// Of the update's two directions one is spared, and the backward pass has time for the other.
TEST(FastestPlan, WhereTheLinkHasOneWayAtATime_GradientsLeaveBeforeMoments) {
  constexpr int kBlocks = 8;
  constexpr std::size_t kEach = 64 * kMiB;
  const std::vector<std::size_t> none(kBlocks + 1), each(kBlocks + 1, kEach);
  Choice choice;
  choice.facts.program = {.stage_units = {}, .stage_backward = {}, .units = {}};
  choice.facts.extent_units.clear();
  for (int unit = 0; unit <= kBlocks; ++unit) {
    choice.facts.program.stage_units.push_back(unit);
    choice.facts.extent_units.push_back(unit);
    choice.facts.program.units.push_back({.persistent = unit == 0});
  }
  choice.facts.program.stage_units.push_back(0);
  choice.facts.kinds = {
      {.name = "weight", .bytes = none, .memory_bytes = none},
      {.name = "master", .bytes = none, .memory_bytes = none},
      {.name = "exp_avg", .bytes = each, .memory_bytes = each, .leaves = 4},
      {.name = "exp_avg_sq", .bytes = none, .memory_bytes = none},
      {.name = "grad", .bytes = each, .memory_bytes = each, .leaves = 2, .whole_units = true, .farthest = Tier::host}};
  choice.facts.kept_bytes = choice.facts.recomputed_bytes = std::vector<std::size_t>(kBlocks + 2);
  choice.budgets = {.device = 14 * kEach, .host = 64 * kEach, .nvme = 0};
  choice.costs.stages.assign(kBlocks + 2, {.forward = {.product_flops = 1e9}, .backward = {.product_flops = 4e12}});
  choice.costs.units.assign(kBlocks + 1, {});
  choice.costs.units.front().persistent = true;
  choice.profile.pcie = PcieProfile{.up_rate = 1e10, .down_rate = 1e10, .both_rate = 1e10};

  const Plan nearest = make_plan(choice.facts, choice.budgets);
  const PredictedPlan chosen = choice.chosen();

  EXPECT_EQ(nearest.placement.bytes(choice.facts, 2, Tier::host), 5 * kEach);
  EXPECT_EQ(chosen.plan.placement.bytes(choice.facts, 2, Tier::host), 0U);
  EXPECT_EQ(chosen.plan.placement.bytes(choice.facts, kGradientKind, Tier::host), 7 * kEach);
  EXPECT_LE(chosen.plan.ledger.peak(Tier::device), *choice.budgets.device);
}

TEST(FastestPlan, WithoutRates_IsMakePlans) {
  Choice choice;
  const Plan plan = make_plan(choice.facts, choice.budgets);

  const PredictedPlan without = fastest_plan(choice.facts, choice.budgets, choice.costs, nullptr);
  choice.profile.gpu->fp16_flops = 0.0;
  const PredictedPlan unknown = choice.chosen();

  EXPECT_FALSE(without.prediction);
  EXPECT_FALSE(unknown.prediction);
  EXPECT_EQ(without.plan.placement, plan.placement);
  EXPECT_EQ(unknown.plan.placement, plan.placement);
  EXPECT_EQ(unknown.plan.program.hash(), plan.program.hash());
}

TEST(FastestPlan, WhatDoesNotFit_IsRefused) {
  Choice choice;
  choice.budgets.host = 0;
  choice.budgets.device = kMiB;

  EXPECT_THROW((void)choice.chosen(), PlanError);
}

}  // namespace
}  // namespace spillway::plan
