// SPDX-License-Identifier: Apache-2.0
#include "plan/simulation.hpp"

#include <functional>
#include <random>

#include <gmock/gmock.h>

#include "core/error.hpp"

namespace spillway::plan {
namespace {

using ::testing::HasSubstr;

/// Numbers that are easy to divide by: products at 100 operations a second, memory and update at 10 bytes a second.
MachineProfile profile() {
  return {.name = "easy",
          .gpu = GpuProfile{.name = "gpu",
                            .memory_bytes = 1000,
                            .bf16_flops = 100.0,
                            .fp32_flops = 50.0,
                            .product_share = 1.0,
                            .attention_share = 0.5,
                            .memory_rate = 20.0,
                            .memory_share = 0.5,
                            .adamw_rate = 10.0 / kAdamWBytes},
          .pcie = PcieProfile{.up_rate = 4.0, .down_rate = 4.0, .both_rate = 6.0},
          .host = {.memory_bytes = 1000,
                   .cores = 2,
                   .memory_rate = 40.0,
                   .product_flops = 10.0,
                   .adamw_rate = 5.0 / kHostAdamWBytes,
                   .adamw_bf16_rate = 0.25,
                   .adamw_int8_rate = 0.125},
          .nvme = NvmeProfile{.read_rate = 2.0, .write_rate = 1.0, .both_rate = 2.0},
          .links = {.ranks_per_node = 2, .node_rate = 8.0, .network_rate = 2.0, .start_seconds = 0.5}};
}

/// A persistent unit 0 of two stages (embedding and head), and `blocks` units of one stage each between them.
struct Job {
  explicit Job(int blocks = 1, int micro_batches = 1, int group_size = 1) {
    facts.stage_units = {0};
    for (int block = 1; block <= blocks; ++block) facts.stage_units.push_back(block);
    facts.stage_units.push_back(0);
    facts.units.resize(static_cast<std::size_t>(blocks) + 1);
    facts.units.front().persistent = true;
    facts.micro_batches = micro_batches;
    facts.group_size = group_size;
    costs.gpu = true;
    costs.product = ProductType::bf16;
    costs.stages.resize(facts.stage_units.size());
    costs.units.resize(facts.units.size());
    costs.units.front().persistent = true;
    state.kinds.assign(kGradientKind + 1, std::vector<TierBytes>(facts.units.size(), TierBytes{}));
    for (int block = 1; block <= blocks; ++block) {
      costs.stages[static_cast<std::size_t>(block)] = {.forward = {.product_flops = 100.0},
                                                       .recompute = {.product_flops = 80.0},
                                                       .backward = {.product_flops = 200.0}};
    }
  }
  [[nodiscard]] Prediction run(const MachineProfile& on = profile(), int first_kept_stage = 0) const {
    return simulate(make_step_program(facts), first_kept_stage, costs, state, on);
  }
  double& weight(std::size_t unit, Tier tier) { return state.kinds[0][unit][static_cast<std::size_t>(tier)]; }
  double& moment(std::size_t unit, Tier tier) { return state.kinds[1][unit][static_cast<std::size_t>(tier)]; }

  double& gradient(std::size_t unit, Tier tier) {
    return state.kinds[kGradientKind][unit][static_cast<std::size_t>(tier)];
  }

  ProgramFacts facts;
  StepCosts costs;
  StateBytes state;
};

TEST(Simulate, WorkAlone_TakesItsTime) {
  Job job;
  job.costs.stages[0].forward = {.product_flops = 50.0, .attention_flops = 50.0, .bytes = 5.0};

  const Prediction step = job.run();

  // 0.5 + 1 + 0.5 for the first stage, 1 + 2 for the block.
  EXPECT_DOUBLE_EQ(step.seconds, 5.0);
  EXPECT_DOUBLE_EQ(step.bound_seconds, 5.0);
  EXPECT_DOUBLE_EQ(step.waiting_seconds, 0.0);
  EXPECT_EQ(step.bound(), Resource::compute);
  EXPECT_DOUBLE_EQ(step.use(Resource::device_memory).busy_seconds, 0.5);
}

TEST(Simulate, EveryKernel_CostsItsStart) {
  Job job;
  job.costs.stages[1].backward.kernels = 4.0;
  MachineProfile slow = profile();
  slow.gpu->kernel_seconds = 0.25;

  // The norm is a kernel for each unit.
  EXPECT_DOUBLE_EQ(job.run(slow).seconds, 3.0 + 1.0 + 2 * 0.25);
}

TEST(Simulate, WhatAnUpdateNeedsFirst_ComesBeforeTheNextForwardPass) {
  Job job(2);
  job.costs.units[1].prepare.kernels = 4.0;
  job.costs.units[2].prepare.bytes = 5.0;
  MachineProfile slow = profile();
  slow.gpu->kernel_seconds = 0.25;

  EXPECT_DOUBLE_EQ(job.run(slow).seconds, 6.0 + 3 * 0.25 + 1.0 + 0.5);
}

TEST(Simulate, StagesThatKeepNothing_RunAgain) {
  const Job job(2);

  EXPECT_DOUBLE_EQ(job.run(profile(), 0).seconds, 6.0);
  EXPECT_DOUBLE_EQ(job.run(profile(), 2).seconds, 6.8);  // the first block's stage is 1
  EXPECT_DOUBLE_EQ(job.run(profile(), 3).seconds, 7.6);
}

TEST(Simulate, AnUpdateThatAForwardPassNeeds_IsWaitedFor) {
  Job job;
  job.moment(1, Tier::device) = 20.0;  // 40 bytes read and written: 4 s

  const Prediction step = job.run();

  EXPECT_DOUBLE_EQ(step.seconds, 4.0 + 1.0 + 2.0);
  EXPECT_DOUBLE_EQ(step.waiting_seconds, 4.0);
  EXPECT_EQ(step.bound(), Resource::device_memory);
  EXPECT_DOUBLE_EQ(step.bound_seconds, 4.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::device_memory).bytes, 40.0);
}

TEST(Simulate, AnUpdateOfLaterUnits_RunsUnderTheForwardPassOfEarlierOnes) {
  Job job;
  job.moment(1, Tier::device) = 20.0;
  job.costs.stages[0].forward = {.product_flops = 500.0};

  const Prediction step = job.run();

  EXPECT_DOUBLE_EQ(step.seconds, 5.0 + 1.0 + 2.0);
  EXPECT_DOUBLE_EQ(step.waiting_seconds, 0.0);
}

TEST(Simulate, AnUpdateOfDeviceMemory_SlowsWhatMemoryBinds) {
  Job job;
  job.moment(1, Tier::device) = 20.0;
  job.costs.stages[0].forward = {.product_flops = 300.0, .bytes = 20.0};

  // 4 s of update beside 5 s of which memory binds two: 4 * 2 / 5 more.
  EXPECT_DOUBLE_EQ(job.run().seconds, 5.0 + 1.6 + 1.0 + 2.0);
}

TEST(Simulate, TheGradient_IsReadByNormAndUpdate) {
  Job job;
  job.costs.units[1].gradient_bytes = job.costs.units[1].update_read_bytes = 10.0;

  // A second for the norm, and one for the update before the forward pass.
  EXPECT_DOUBLE_EQ(job.run().seconds, 1.0 + 1.0 + 3.0);
}

TEST(Simulate, StateInHostMemory_IsStreamedBothWaysAtOnce) {
  Job job;
  job.moment(1, Tier::host) = 12.0;

  const Prediction step = job.run();

  // Each way alone would take 3 s, both together 24 / 6.
  EXPECT_DOUBLE_EQ(step.seconds, 4.0 + 3.0);
  EXPECT_EQ(step.bound(), Resource::pcie_both);
  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_up).busy_seconds, 3.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_up).bytes, 12.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_down).bytes, 12.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::host_memory).bytes, 24.0);
}

TEST(Simulate, StateOnDrives_PassesThemAndPcie) {
  Job job;
  job.moment(1, Tier::nvme) = 8.0;

  const Prediction step = job.run();

  EXPECT_DOUBLE_EQ(step.seconds, 8.0 + 3.0);  // 4 s of reading, 8 of writing, 16 / 2 both
  EXPECT_DOUBLE_EQ(step.use(Resource::nvme_read).bytes, 8.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::nvme_write).bytes, 8.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_up).bytes, 8.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::host_memory).bytes, 32.0);
  EXPECT_DOUBLE_EQ(step.nvme_bytes_a_day(2), 8.0 * 2 * 86400.0 / 11.0);
}

/// The CPU's optimizer takes 28 / 5 s for a parameter, and 4 with moments in bf16.
TEST(Simulate, WhatTheCpuUpdates_CostsTheLinkItsGradientAndItsWeight) {
  Job job;
  job.weight(1, Tier::device) = 2.0;
  job.moment(1, Tier::host) = 8.0;
  job.costs.units[1].parameters = 2;
  job.costs.units[1].update_read_bytes = 4.0;
  job.state.on_cpu.resize(2);
  job.state.on_cpu[1] = {.state = {2.0, 8.0, 0.0}, .gradient = 2.0};  // one of the two

  const Prediction step = job.run();

  // 4 bytes down at 4 a second, a parameter, 2 up at 4; then the block, forward and backward.
  EXPECT_DOUBLE_EQ(step.seconds, 1.0 + 28.0 / 5.0 + 0.5 + 1.0 + 2.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_down).bytes, 4.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_up).bytes, 2.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::cpu_update).bytes, 22.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::host_memory).bytes, 22.0 + 6.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::device_memory).bytes, 2.0);  // the other's gradient
  job.costs.moments = MomentFormat::bf16;
  EXPECT_DOUBLE_EQ(job.run().seconds, 1.0 + 4.0 + 0.5 + 1.0 + 2.0);
}

TEST(Simulate, KernelsThatReachForParameters_TakeFiveTimesAsLongAsACopy) {
  Job job;
  job.weight(1, Tier::device) = 2.0;
  job.state.kinds[1][1][static_cast<std::size_t>(Tier::host)] = 4.0;  // masters
  job.costs.reads_in_place = 1.0;

  const Prediction step = job.run();

  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_up).busy_seconds, 5.0 * 4.0 / 4.0 + 4.0 / 4.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_up).bytes, 8.0);
}

TEST(Simulate, CpuAndLink_WorkAtTheSameTime) {
  Job job;
  job.moment(1, Tier::host) = 12.0 + 5.0;
  job.costs.units[1].parameters = 1;
  job.costs.units[1].update_read_bytes = 0.028;
  job.state.on_cpu.resize(2);
  job.state.on_cpu[1] = {.state = {0.0, 5.0, 0.0}, .gradient = 0.01};

  // 24 / 6 s of the link, and 2 s of the CPU beside it.
  EXPECT_NEAR(job.run().seconds, 4.0 + 3.0, 0.01);
}

TEST(Simulate, DrivesOfWhatTheCpuUpdates_LeaveTheLinkAlone) {
  Job job;
  job.moment(1, Tier::nvme) = 8.0;
  job.costs.units[1].parameters = 1;
  job.costs.units[1].update_read_bytes = 1.0;
  job.state.on_cpu.resize(2);
  job.state.on_cpu[1] = {.state = {0.0, 0.0, 8.0}, .gradient = 1.0};

  const Prediction step = job.run();

  // 8 s of both ways, then a parameter on the CPU.
  EXPECT_DOUBLE_EQ(step.seconds, 8.0 + 28.0 / 5.0 + 3.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_up).bytes, 0.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::nvme_write).bytes, 8.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::host_memory).bytes, 17.0 + 1.0 + 16.0);
}

TEST(Simulate, TwoRanksOfANode_ShareItsDrivesAndMemory) {
  Job job;
  job.moment(1, Tier::nvme) = 8.0;
  job.costs.ranks_on_node = 2;

  EXPECT_DOUBLE_EQ(job.run().seconds, 16.0 + 3.0);
}

TEST(Simulate, UnitsAreUpdatedOneAfterTheOther_EachBeforeItsForwardPass) {
  Job job(2);
  job.moment(1, Tier::host) = 6.0;   // 2 s
  job.moment(2, Tier::host) = 15.0;  // 5 s

  // The second block's update ends after 7 s; the first block runs meanwhile.
  EXPECT_DOUBLE_EQ(job.run().seconds, 7.0 + 1.0 + 4.0);
}

TEST(Simulate, WeightsInHostMemory_ComeOnceAGroupAndPass) {
  Job job(4, 2, 2);
  for (std::size_t unit = 1; unit <= 4; ++unit) job.weight(unit, Tier::host) = 2.0;

  const Prediction one_group = job.run();
  job.facts.group_size = 1;
  const Prediction two_groups = job.run();

  // Forward four; backward the last two are still there. Updates move all of them both ways.
  EXPECT_DOUBLE_EQ(one_group.use(Resource::pcie_up).bytes, 8.0 + 2.0 * (4 + 2));
  EXPECT_DOUBLE_EQ(one_group.use(Resource::pcie_down).bytes, 8.0);
  EXPECT_DOUBLE_EQ(two_groups.use(Resource::pcie_up).bytes, 8.0 + 2.0 * (4 + 2 + 2 + 2));
}

TEST(Simulate, GradientsInHostMemory_GoDownWhenTheyAreMadeAndUpToTheUpdate) {
  Job job(2);
  job.gradient(1, Tier::host) = job.gradient(2, Tier::host) = 12.0;
  for (std::size_t unit : {1, 2}) job.costs.units[unit].gradient_bytes = 10.0;

  const Prediction step = job.run();

  // Forward 2 s. Backward of the second block 2 s, a second for its part of the norm, 3 s down; the same of the first one. Up 3 s each
  // to the updates, the first of which waits for what is still on its way down: until 3 s after the norm.
  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_down).bytes, 24.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_up).bytes, 24.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::host_memory).bytes, 48.0);
  EXPECT_DOUBLE_EQ(step.seconds, 3.0 + 3.0 + 3.0 + 1.0 + 2 * (2.0 + 1.0));
  job.costs.gpu = false;
  job.costs.product = ProductType::fp32;
  EXPECT_DOUBLE_EQ(job.run().use(Resource::pcie_down).bytes, 0.0);
}

TEST(Simulate, ASlotForGradients_IsUsedAgainWhenItsLastOneHasLeft) {
  Job job(3);
  for (const std::size_t unit : {1, 2, 3}) job.gradient(unit, Tier::host) = 40.0;  // 10 s down

  const double waits = job.run().waiting_seconds;
  job.gradient(1, Tier::host) = 0.0;

  // The first block's waits until the third one's has left.
  EXPECT_GE(waits, job.run().waiting_seconds + 10.0 - 2.0 - 2.0);
}

TEST(Simulate, WeightsOnTheirWay_AreWaitedForWhereComputingIsShorter) {
  Job job(2);
  job.weight(2, Tier::host) = 20.0;  // updated in 20 * 2 / 6, then 5 s up; in the backward pass it is still there
  job.costs.stages[0].forward = {.product_flops = 100.0};

  const Prediction step = job.run();

  // The wish for the second block's weights comes with the first block, after 1 s: they start when they are updated.
  EXPECT_DOUBLE_EQ(step.seconds, 20.0 * 2 / 6 + 5.0 + 1.0 + 4.0);
}

/// `blocks` blocks of 1 s forward, 0.8 s again and 2 s backward, each with residuals of so many bytes in host memory.
Job with_host_residuals(int blocks, double bytes, int micro_batches = 1, int group_size = 1) {
  Job job(blocks, micro_batches, group_size);
  job.state.host_residuals.assign(job.costs.stages.size(), bytes);
  job.state.host_residuals.front() = job.state.host_residuals.back() = 0.0;
  return job;
}

TEST(Simulate, ResidualsInHostMemory_MoveUnderTheStages) {
  const Job job = with_host_residuals(8, 4.0);  // a second each way

  const Prediction step = job.run(profile(), 9);

  EXPECT_NEAR(step.seconds, 8 * 3.8, 1e-9);
  EXPECT_NEAR(step.waiting_seconds, 0.0, 1e-9);
  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_down).bytes, 8 * 4.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_up).bytes, (8 - 3) * 4.0);  // the last are still in the three places
  EXPECT_DOUBLE_EQ(step.use(Resource::host_memory).bytes, (2 * 8 - 3) * 4.0);
}

TEST(Simulate, ResidualsThatTakeLongerThanTheStages_BindTheStep) {
  const Job job = with_host_residuals(8, 40.0);  // ten seconds each way

  const Prediction step = job.run(profile(), 9);

  EXPECT_GE(step.seconds, (2 * 8 - 3) * 10.0);
  EXPECT_EQ(step.bound(), Resource::pcie_both);
}

TEST(Simulate, ResidualsOfFirstStagesInHostMemory_MoveThoseAlone) {
  Job job = with_host_residuals(8, 4.0);
  for (std::size_t stage = 6; stage <= 8; ++stage) job.state.host_residuals[stage] = 0.0;

  const Prediction step = job.run(profile(), 9);

  EXPECT_NEAR(step.seconds, 8 * 3.8, 1e-9);
  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_down).bytes, 5 * 4.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_up).bytes, (5 - 3) * 4.0);
}

TEST(Simulate, ResidualsOfGroups_MoveOnceForEachMicroBatch) {
  const Job job = with_host_residuals(4, 1.0, 5, 2);

  const Prediction step = job.run(profile(), 5);

  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_down).bytes, 5 * 4.0);
  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_up).bytes, 2 * 4.0);  // of two groups: four places keep half of theirs
}

TEST(Simulate, UpdatesRunOn_WhileResidualsLeave) {
  Job job = with_host_residuals(8, 0.4);
  for (std::size_t unit = 1; unit <= 8; ++unit) job.moment(unit, Tier::host) = 1.0;  // a third of a second
  Job without = job;
  without.state.host_residuals.clear();

  // Compute is the longer: nothing waits for more than a transfer or two.
  EXPECT_NEAR(job.run(profile(), 9).seconds, without.run(profile(), 9).seconds, 0.5);
}

TEST(Simulate, OnTheHost_TheUpdateTakesTheSameCores) {
  Job job;
  job.costs.gpu = false;
  job.costs.product = ProductType::fp32;
  job.moment(1, Tier::host) = 5.0;
  job.costs.stages[0].forward = {.product_flops = 10.0};

  const Prediction step = job.run();

  EXPECT_DOUBLE_EQ(step.seconds, 1.0 + 10.0 / 5.0 + 10.0 + 20.0);
  EXPECT_EQ(step.bound(), Resource::compute);
  EXPECT_DOUBLE_EQ(step.use(Resource::pcie_up).bytes, 0.0);
}

TEST(Simulate, Reductions_RunBesideTheBackwardPassAndEndBeforeTheNorm) {
  Job job(2);
  for (UnitCosts& unit : job.costs.units) unit.reduce_link_bytes = 8.0;  // 1.5 s each

  const Prediction step = job.run();

  // The second block's runs under the first one's backward pass; the first one's and the persistent unit's come after it.
  EXPECT_DOUBLE_EQ(step.seconds, 2.0 + 4.0 + 2 * 1.5);
  EXPECT_DOUBLE_EQ(step.use(Resource::network).bytes, 24.0);
  job.costs.several_nodes = true;  // 4.5 s each
  EXPECT_DOUBLE_EQ(job.run().seconds, 2.0 + 2.0 + 3 * 4.5);
}

TEST(Simulate, Gathers_ComeBeforeUseOrAfterTheUpdate) {
  Job job(4);
  for (std::size_t unit = 1; unit <= 4; ++unit) job.costs.units[unit].gather_link_bytes = 8.0;

  const Prediction after_update = job.run();
  job.costs.gathers_on_acquire = true;
  const Prediction before_use = job.run();

  EXPECT_DOUBLE_EQ(after_update.use(Resource::network).bytes, 32.0);
  EXPECT_DOUBLE_EQ(before_use.use(Resource::network).bytes, 8.0 * (4 + 2));
}

TEST(Simulate, AProfileThatSaysNothing_IsNamed) {
  Job job;
  job.moment(1, Tier::nvme) = 8.0;
  MachineProfile without = profile();
  without.nvme.reset();
  MachineProfile turing = profile();
  turing.gpu->bf16_flops = 0.0;

  try {
    (void)job.run(without);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("NVMe"));
  }
  EXPECT_THAT(missing_rates(turing, job.costs, job.state), HasSubstr("precision"));
}

/// Jobs of all sorts, drawn from a fixed seed.
class RandomJobs : public ::testing::Test {
 protected:
  Job draw() {
    Job job(static_cast<int>(number() * 5) + 1, static_cast<int>(number() * 3) + 1, 1);
    job.facts.group_size = 1 + static_cast<int>(number() * job.facts.micro_batches);
    job.costs.gpu = number() < 0.8;
    job.costs.gathers_on_acquire = number() < 0.5;
    job.costs.several_nodes = number() < 0.5;
    for (StageCosts& stage : job.costs.stages)
      for (Work* work : {&stage.forward, &stage.recompute, &stage.backward})
        *work = {.product_flops = 200.0 * number(),
                 .attention_flops = 50.0 * number(),
                 .bytes = 20.0 * number(),
                 .kernels = 2.0 * number()};
    for (std::size_t unit = 0; unit < job.costs.units.size(); ++unit) {
      UnitCosts& costs = job.costs.units[unit];
      costs.parameters = 1 + static_cast<std::int64_t>(2.0 * number());
      costs.gradient_bytes = costs.update_read_bytes = 5.0 * number();
      costs.reduce.bytes = 5.0 * number();
      if (number() < 0.5) costs.reduce_link_bytes = 5.0 * number();
      if (number() < 0.5) costs.gather_link_bytes = 5.0 * number();
      for (auto& kind : job.state.kinds) kind[unit][static_cast<std::size_t>(number() * 3)] = 20.0 * number();
    }
    if (number() < 0.3) job.costs.moments = MomentFormat::int8;
    if (number() < 0.3) job.costs.reads_in_place = 1.0;
    if (job.costs.gpu && number() < 0.5) {
      job.state.on_cpu.resize(job.costs.units.size());
      for (std::size_t unit = 0; unit < job.costs.units.size(); ++unit) {
        const double share = number();
        job.state.on_cpu[unit].gradient = share * job.costs.units[unit].update_read_bytes;
        for (std::size_t kind = 0; kind < std::min(job.state.kinds.size(), kGradientKind); ++kind)
          for (std::size_t tier = 0; tier < 3; ++tier)
            job.state.on_cpu[unit].state[tier] += share * job.state.kinds[kind][unit][tier];
      }
    }
    if (job.costs.gpu && number() < 0.5) {
      job.state.host_residuals.assign(job.costs.stages.size(), 0.0);
      for (std::size_t stage = 1; stage + 1 < job.costs.stages.size(); ++stage)
        if (number() < 0.7) job.state.host_residuals[stage] = 10.0 * number();
    }
    return job;
  }
  double number() { return std::uniform_real_distribution(0.0, 1.0)(random_); }

 private:
  std::mt19937 random_{8};
};

TEST_F(RandomJobs, NoStepIsFasterThanItsBusiestResource) {
  for (int i = 0; i < 500; ++i) {
    const Prediction step = draw().run(profile(), static_cast<int>(number() * 4));

    EXPECT_LE(step.bound_seconds, step.seconds * (1 + 1e-12)) << i;
    EXPECT_DOUBLE_EQ(step.bound_seconds, step.use(step.bound()).busy_seconds);
  }
}

TEST_F(RandomJobs, AFasterResource_NeverGivesASlowerStep) {
  using Change = std::function<void(MachineProfile&)>;
  const std::vector<Change> faster = {
      [](MachineProfile& p) { p.gpu->bf16_flops *= 1.7; },      [](MachineProfile& p) { p.gpu->attention_share = 0.9; },
      [](MachineProfile& p) { p.gpu->memory_rate *= 1.7; },     [](MachineProfile& p) { p.gpu->adamw_rate *= 1.7; },
      [](MachineProfile& p) { p.pcie->up_rate *= 1.7; },        [](MachineProfile& p) { p.pcie->down_rate *= 1.7; },
      [](MachineProfile& p) { p.pcie->both_rate *= 1.7; },      [](MachineProfile& p) { p.host.memory_rate *= 1.7; },
      [](MachineProfile& p) { p.host.product_flops *= 1.7; },   [](MachineProfile& p) { p.host.adamw_rate *= 1.7; },
      [](MachineProfile& p) { p.host.adamw_int8_rate *= 1.7; }, [](MachineProfile& p) { p.nvme->read_rate *= 1.7; },
      [](MachineProfile& p) { p.nvme->write_rate *= 1.7; },     [](MachineProfile& p) { p.nvme->both_rate *= 1.7; },
      [](MachineProfile& p) { p.links.node_rate *= 1.7; },      [](MachineProfile& p) { p.links.network_rate *= 1.7; },
      [](MachineProfile& p) { p.links.start_seconds *= 0.5; }};
  for (int i = 0; i < 200; ++i) {
    const Job job = draw();
    const double before = job.run().seconds;
    for (std::size_t change = 0; change < faster.size(); ++change) {
      MachineProfile other = profile();
      faster[change](other);

      EXPECT_LE(job.run(other).seconds, before * (1 + 1e-12)) << "job " << i << ", change " << change;
    }
  }
}

TEST_F(RandomJobs, TheSameJob_TakesTheSameTime) {
  for (int i = 0; i < 20; ++i) {
    const Job job = draw();

    EXPECT_EQ(job.run().seconds, job.run().seconds);
  }
}

}  // namespace
}  // namespace spillway::plan
