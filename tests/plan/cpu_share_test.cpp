// SPDX-License-Identifier: Apache-2.0
#include "plan/cpu_share.hpp"

#include <algorithm>

#include <gtest/gtest.h>

#include "plan/fastest.hpp"
#include "plan/plan.hpp"

namespace spillway::plan {
namespace {

enum Kind : std::size_t { kWeight, kMaster, kExpAvg, kExpAvgSq };

/// Beside a GPU: two units of eight extents of 100 parameters each, weights, masters and gradients of 2 bytes, moments of 4.
JobFacts job_facts(UpdateOn who) {
  constexpr std::size_t kExtents = 16;
  const std::vector<std::size_t> two(kExtents, 200), four(kExtents, 400);
  std::vector<std::size_t> weights(kExtents, 0);
  weights[0] = weights[8] = 1600;
  JobFacts job;
  job.program = {.stage_units = {0, 1, 0}, .stage_backward = {}, .units = {{.persistent = true}, {}}};
  for (int extent = 0; extent < 16; ++extent) job.extent_units.push_back(extent / 8);
  job.kinds = {{.name = "weight", .bytes = two, .memory_bytes = weights, .wish = {}},
               {.name = "master", .bytes = two, .memory_bytes = two, .wish = {}, .leaves = 1},
               {.name = "exp_avg", .bytes = four, .memory_bytes = four, .wish = {}, .leaves = 2},
               {.name = "exp_avg_sq", .bytes = four, .memory_bytes = four, .wish = {}, .leaves = 2}};
  job.kinds.push_back(
      {.name = "grad", .bytes = two, .memory_bytes = two, .wish = {}, .whole_units = true, .farthest = Tier::host});
  job.ring_slots = 1;
  job.link_places = 1;
  job.store_alignment = 16;
  job.gpu.present = true;
  job.cpu_update = {.who = who, .places = 2};
  return job;
}

constexpr std::size_t kMasters = 16 * 200, kMoments = 800;  // all, of one extent
constexpr std::size_t kLinkRing = 1024, kCpuRing = 2 * (256 + 256);
constexpr std::size_t kPlenty = 100000;

/// A letter for each extent of a kind, the tier's first.
std::string tiers_of(const Placement& placement, Kind kind) {
  std::string text;
  for (const Tier tier : placement.tiers[kind]) text += name_of(tier)[0];
  return text;
}
std::string who_updates(const Placement& placement) {
  std::string text;
  for (std::size_t extent = 0; extent < placement.tiers[0].size(); ++extent)
    text += placement.updated_on_cpu(extent) ? 'c' : 'g';
  return text;
}

/// Room for moments of eight extents, and for what passes the link.
const Room kHalf{.device = kMasters + 8 * kMoments + kLinkRing, .host = kPlenty};

TEST(PlaceShared, WithoutAShare_IsPlaceNearest) {
  const JobFacts job = job_facts(UpdateOn::automatic);

  EXPECT_EQ(place_shared(job, kHalf, {}), place_nearest(job, kHalf));
  EXPECT_EQ(place_shared(job, {.device = kPlenty, .host = 0}, {.of_host = 1.0, .of_nvme = true}),
            Placement::wished(job));  // nothing is outside the device
}

TEST(PlaceShared, HalfOfWhatIsInHostMemory_GoesToTheCpu_EvenlyAndItsMastersLeaveTheDevice) {
  const JobFacts job = job_facts(UpdateOn::split);

  const Placement placement = place_shared(job, kHalf, {.of_host = 0.5, .of_nvme = true});

  // Four masters less on the device are 800 bytes: the moments of the ninth extent.
  EXPECT_EQ(who_updates(placement), "gggggggggcgcgcgc");
  EXPECT_EQ(tiers_of(placement, kMaster), "dddddddddhdhdhdh");
  EXPECT_EQ(tiers_of(placement, kExpAvg), "dddddddddhhhhhhh");
  EXPECT_EQ(tiers_of(placement, kExpAvgSq), "dddddddddhhhhhhh");
}

TEST(PlaceShared, AllOfIt_LeavesNothingForTheLink_AndTheDeviceFull) {
  const JobFacts job = job_facts(UpdateOn::cpu);

  const Placement placement = place_shared(job, kHalf, {.of_host = 1.0, .of_nvme = true});

  // 200 + 800 bytes an extent that is the GPU's: 10 of them in 10,624 bytes. The link needs no ring.
  EXPECT_EQ(who_updates(placement), "ggggggggggcccccc");
  EXPECT_EQ(tiers_of(placement, kMaster), "ddddddddddhhhhhh");
  EXPECT_EQ(tiers_of(placement, kExpAvg), "ddddddddddhhhhhh");
  EXPECT_EQ(placement.link_ring_bytes(job), 0U);
  EXPECT_EQ(cpu_ring_offsets(job, placement), (std::vector<std::size_t>{0, 256, 256, 256, 256, 512}));
  EXPECT_EQ(cpu_ring_bytes(job, placement), kCpuRing);
}

TEST(PlaceShared, WhatIsOnNvme_IsTheCpus) {
  const JobFacts job = job_facts(UpdateOn::automatic);
  const Room room{.device = kMasters + 8 * kMoments + kLinkRing, .host = 4 * kMoments + 2500};

  const Placement placement = place_shared(job, room, {.of_host = 0.0, .of_nvme = true});

  EXPECT_TRUE(placement.uses(kExpAvg, Tier::nvme));
  for (std::size_t extent = 0; extent < 16; ++extent) {
    const bool drive = placement.tier(kExpAvg, extent) == Tier::nvme || placement.tier(kMaster, extent) == Tier::nvme;
    EXPECT_TRUE(placement.updated_on_cpu(extent) || !drive) << extent;
  }
  EXPECT_EQ(placement.tier(kExpAvg, 0), Tier::device);
  EXPECT_FALSE(placement.updated_on_cpu(0));
}

TEST(PlaceShared, MomentsThatWereAskedToStay_StayTheGpus) {
  JobFacts job = job_facts(UpdateOn::cpu);
  job.kinds[kExpAvg].wish = Tier::device;
  job.kinds[kExpAvgSq].wish = Tier::host;

  const Placement placement =
      place_shared(job, {.device = kPlenty, .host = kPlenty}, {.of_host = 1.0, .of_nvme = true});

  EXPECT_TRUE(placement.on_cpu.empty());
}

TEST(PlaceShared, AWishForTheMaster_IsKept_AndItTravelsWithTheWeight) {
  JobFacts job = job_facts(UpdateOn::cpu);
  job.kinds[kMaster].wish = Tier::device;
  job.kinds[kExpAvg].wish = job.kinds[kExpAvgSq].wish = Tier::host;

  const Placement placement =
      place_shared(job, {.device = kPlenty, .host = kPlenty}, {.of_host = 1.0, .of_nvme = true});

  EXPECT_EQ(who_updates(placement), std::string(16, 'c'));
  EXPECT_EQ(tiers_of(placement, kMaster), std::string(16, 'd'));
  EXPECT_EQ(cpu_ring_offsets(job, placement), (std::vector<std::size_t>{0, 256, 512, 512, 512, 768}));
}

TEST(PlaceShared, WithAllInHostMemory_NothingComesDown_AndTheRingHasPlacesAllTheSame) {
  JobFacts job = job_facts(UpdateOn::cpu);
  for (KindFacts& kind : job.kinds) kind.wish = Tier::host;
  job.gathered_bytes = {1600, 1600};

  const Placement placement =
      place_shared(job, {.device = kPlenty, .host = kPlenty}, {.of_host = 1.0, .of_nvme = true});

  EXPECT_EQ(who_updates(placement), std::string(16, 'c'));
  EXPECT_EQ(cpu_ring_offsets(job, placement), (std::vector<std::size_t>{0, 0, 0, 0, 0, 256}));
  EXPECT_EQ(cpu_ring_bytes(job, placement), 2 * 256U);
}

TEST(PlaceShared, TheRing_IsTakenFromHostMemory) {
  const JobFacts job = job_facts(UpdateOn::cpu);
  const std::size_t needed = 6 * (200 + kMoments) + kCpuRing;

  const Placement fits = place_shared(job, {.device = kHalf.device, .host = needed}, {.of_host = 1.0, .of_nvme = true});
  const Placement less =
      place_shared(job, {.device = kHalf.device, .host = needed - 1}, {.of_host = 1.0, .of_nvme = true});

  EXPECT_FALSE(fits.uses(kExpAvg, Tier::nvme));
  EXPECT_TRUE(less.uses(kExpAvg, Tier::nvme));
}

TEST(UsualCpuShare, FollowsWhoIsAsked) {
  EXPECT_EQ(usual_cpu_share(job_facts(UpdateOn::gpu)), CpuShare{});
  EXPECT_EQ(usual_cpu_share(job_facts(UpdateOn::automatic)), (CpuShare{.of_host = 0.0, .of_nvme = true}));
  EXPECT_EQ(usual_cpu_share(job_facts(UpdateOn::cpu)), (CpuShare{.of_host = 1.0, .of_nvme = true}));
  EXPECT_GT(usual_cpu_share(job_facts(UpdateOn::split)).of_host, 0.0);
  JobFacts host = job_facts(UpdateOn::cpu);
  host.gpu.present = false;
  EXPECT_EQ(usual_cpu_share(host), CpuShare{});
  EXPECT_EQ(cpu_shares(host), std::vector<CpuShare>{CpuShare{}});
}

TEST(CpuShares, OfASplit_HaveSomethingForEach) {
  for (const CpuShare& share : cpu_shares(job_facts(UpdateOn::split))) {
    EXPECT_GT(share.of_host, 0.0);
    EXPECT_LT(share.of_host, 1.0);
  }
  EXPECT_EQ(cpu_shares(job_facts(UpdateOn::automatic)).front().of_host, 0.0);
  EXPECT_EQ(cpu_shares(job_facts(UpdateOn::automatic)).back().of_host, 1.0);
  EXPECT_EQ(cpu_shares(job_facts(UpdateOn::cpu)).size(), 1U);
}

TEST(StateBytes, CountWhatTheCpuUpdates) {
  const JobFacts job = job_facts(UpdateOn::split);
  const Placement placement = place_shared(job, kHalf, {.of_host = 0.5, .of_nvme = true});

  const StateBytes state = state_bytes(placement, job);

  ASSERT_EQ(state.on_cpu.size(), 2U);
  EXPECT_EQ(state.on_cpu[0].gradient, 0.0);
  EXPECT_EQ(state.on_cpu[1].gradient, 4 * 200.0);
  EXPECT_EQ(state.on_cpu[1].state, (TierBytes{4 * 200.0, 4 * 1000.0, 0.0}));
  EXPECT_TRUE(state_bytes(place_nearest(job, kHalf), job).on_cpu.empty());
}

/// A device that is short of memory by half of the moments, a link and a CPU.
struct Machine {
  explicit Machine(UpdateOn who) : facts(job_facts(who)) {
    facts.kept_bytes = facts.recomputed_bytes = {0, 0, 0};
    budgets = {.device = 2 * 1600 + kMasters + 8 * kMoments + kLinkRing, .host = kPlenty};
    costs.gpu = true;
    costs.product = ProductType::fp16;
    costs.stages.resize(3);
    costs.units.resize(2);
    costs.units.front().persistent = true;
    for (UnitCosts& unit : costs.units) {
      unit.parameters = 8 * 100;
      unit.update_read_bytes = 8 * 200.0;
    }
    profile = named_profile("titan-rtx-24gb");
    profile.pcie = PcieProfile{.up_rate = 1e6, .down_rate = 1e6, .both_rate = 2e6};
    profile.host.memory_rate = 1e9;
  }
  /// Of parameters that the CPU updates in the time in which a parameter passes the link both ways.
  [[nodiscard]] PredictedPlan chosen(double parameters) {
    profile.host.adamw_rate = parameters * 1e6 / 8.0;
    return fastest_plan(facts, budgets, costs, &profile);
  }
  [[nodiscard]] double share(double parameters) {
    const std::vector<bool> on_cpu = chosen(parameters).plan.placement.on_cpu;
    return static_cast<double>(std::ranges::count(on_cpu, true)) / 8.0;
  }
  JobFacts facts;
  Budgets budgets;
  StepCosts costs;
  MachineProfile profile;
};

TEST(FastestPlan, GivesTheCpuAsMuchAsItIsGoodFor) {
  Machine machine(UpdateOn::automatic);

  EXPECT_EQ(machine.share(1e-3), 0.0);
  const double even = machine.share(1.0);
  EXPECT_GT(even, 0.1);
  EXPECT_LT(even, 0.8);
  EXPECT_GT(machine.share(1000.0), even);
}

TEST(FastestPlan, KeepsToWhoIsAsked) {
  Machine gpu(UpdateOn::gpu), cpu(UpdateOn::cpu), split(UpdateOn::split);

  EXPECT_EQ(gpu.share(1000.0), 0.0);
  EXPECT_EQ(cpu.chosen(1e-3).plan.placement.link_ring_bytes(cpu.facts), 0U);
  EXPECT_GT(split.share(1e-3), 0.0);
}

TEST(FastestPlan, ASplit_IsFasterThanEither) {
  Machine gpu(UpdateOn::gpu), cpu(UpdateOn::cpu), both(UpdateOn::automatic);
  const double with_both = both.chosen(1.0).prediction->seconds;

  EXPECT_LT(with_both, 0.9 * gpu.chosen(1.0).prediction->seconds);
  EXPECT_LT(with_both, 0.9 * cpu.chosen(1.0).prediction->seconds);
}

}  // namespace
}  // namespace spillway::plan
