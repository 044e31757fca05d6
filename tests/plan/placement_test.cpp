// SPDX-License-Identifier: Apache-2.0
#include "plan/placement.hpp"

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "plan/job_ledger.hpp"
#include "plan/plan.hpp"

namespace spillway::plan {
namespace {

enum Kind : std::size_t { kWeight, kMaster, kExpAvg, kExpAvgSq };

/// Units of two and four extents, the last one shorter: a weight and a master of 2 bytes, moments of 4 bytes for every 100 elements.
JobFacts job_facts() {
  const std::vector<std::size_t> two = {200, 200, 200, 200, 200, 100}, four = {400, 400, 400, 400, 400, 200};
  JobFacts job;
  job.program.units = {{.persistent = true}, {}};
  job.extent_units = {0, 0, 1, 1, 1, 1};
  job.kinds = {{.name = "weight", .bytes = two, .memory_bytes = {1000, 0, 1000, 0, 0, 0}, .wish = {}},
               {.name = "master", .bytes = two, .memory_bytes = two, .wish = {}, .leaves = 1},
               {.name = "exp_avg", .bytes = four, .memory_bytes = four, .wish = {}, .leaves = 2},
               {.name = "exp_avg_sq", .bytes = four, .memory_bytes = four, .wish = {}, .leaves = 2}};
  job.ring_slots = 1;
  job.store_alignment = 16;
  job.gathered_bytes = {1000, 1000};
  return job;
}

/// A letter for each extent of a kind, the tier's first.
std::string tiers_of(const Placement& placement, Kind kind) {
  std::string text;
  for (const Tier tier : placement.tiers[kind]) text += name_of(tier)[0];
  return text;
}

/// Of the kinds that may move.
constexpr std::size_t kMasters = 1100, kMoments = 4400;

TEST(PlaceNearest, WithRoomForAll_LeavesAllOnTheDevice) {
  const JobFacts job = job_facts();

  const Placement placement = place_nearest(job, {.device = kMasters + kMoments, .host = 0});

  EXPECT_EQ(placement, Placement::wished(job));
  EXPECT_EQ(placement.bytes_outside(job), 0U);
  EXPECT_EQ(placement.bytes(job, kWeight, Tier::device), 2000U);
  EXPECT_EQ(placement.bytes(job, kExpAvg, Tier::device), 2200U);
}

TEST(PlaceNearest, WhatDoesNotFit_IsTheEndOfTheMoments) {
  const JobFacts job = job_facts();

  const Placement placement = place_nearest(job, {.device = kMasters + kMoments - 1, .host = kMoments});

  EXPECT_EQ(tiers_of(placement, kMaster), "dddddd");
  EXPECT_EQ(tiers_of(placement, kExpAvg), "dddddh");
  EXPECT_EQ(tiers_of(placement, kExpAvgSq), "dddddh");
}

TEST(PlaceNearest, OneKind_SpansThreeTiersWithinAUnit) {
  const JobFacts job = job_facts();

  const Placement placement = place_nearest(job, {.device = kMasters + 3 * 800, .host = 800 + 800});

  EXPECT_EQ(tiers_of(placement, kExpAvg), "dddhnn");
  EXPECT_EQ(tiers_of(placement, kExpAvgSq), "dddhnn");
  EXPECT_EQ(placement.unit_bytes(job, kExpAvg, 1, Tier::device), 400U);
  EXPECT_EQ(placement.unit_bytes(job, kExpAvg, 1, Tier::host), 400U);
  EXPECT_EQ(placement.unit_bytes(job, kExpAvg, 1, Tier::nvme), 600U);
  EXPECT_EQ(placement.unit_bytes(job, kExpAvg, 0, Tier::nvme), 0U);
  EXPECT_EQ(placement.bytes(job, kExpAvg, Tier::nvme), 608U);  // padded
  EXPECT_EQ(placement.bytes_outside(job), 2 * 1000U);
}

TEST(PlaceNearest, AnExtentThatDoesNotFit_IsNotOvertakenByASmallerOne) {
  const JobFacts job = job_facts();

  const Placement placement = place_nearest(job, {.device = kMasters + 4 * 800 + 400, .host = kMoments});

  EXPECT_EQ(tiers_of(placement, kExpAvg), "ddddhh");
}

TEST(PlaceNearest, Masters_LeaveOnlyWhenNoMomentIsLeft) {
  const JobFacts job = job_facts();

  const Placement just = place_nearest(job, {.device = kMasters, .host = kMasters + kMoments});
  const Placement less = place_nearest(job, {.device = kMasters - 1, .host = kMasters + kMoments});

  EXPECT_EQ(tiers_of(just, kMaster), "dddddd");
  EXPECT_EQ(tiers_of(just, kExpAvg), "hhhhhh");
  EXPECT_EQ(tiers_of(less, kMaster), "dddddh");
  EXPECT_EQ(tiers_of(less, kExpAvg), "hhhhhh");
}

TEST(PlaceNearest, Weights_Stay) {
  EXPECT_EQ(tiers_of(place_nearest(job_facts(), {}), kWeight), "dddddd");
  EXPECT_EQ(tiers_of(place_nearest(job_facts(), {}), kMaster), "nnnnnn");
}

TEST(PlaceNearest, TheRing_IsTakenFromHostMemoryOnlyWhereItIsNeeded) {
  const JobFacts job = job_facts();
  const std::size_t device = kMasters;

  const Placement fits = place_nearest(job, {.device = device, .host = kMoments});
  const Placement short_of_a_byte = place_nearest(job, {.device = device, .host = kMoments - 1});

  EXPECT_EQ(tiers_of(fits, kExpAvg), "hhhhhh");
  EXPECT_EQ(fits.ring_bytes(job), 0U);
  // The last extents would do for the byte, but a slot of the ring takes one of the larger ones, which is then there itself.
  EXPECT_EQ(tiers_of(short_of_a_byte, kExpAvg), "hhhhnn");
  EXPECT_EQ(short_of_a_byte.ring_bytes(job), 800U);
}

TEST(PlaceNearest, DeviceAndHostThatAreOneMemory_ShareItsRoom) {
  const JobFacts job = job_facts();

  const Placement placement =
      place_nearest(job, {.device = kMasters + 800, .host = kMasters + kMoments, .shared = true});
  const Placement short_of_it =
      place_nearest(job, {.device = kMasters + 800, .host = kMasters + kMoments - 1, .shared = true});

  EXPECT_EQ(tiers_of(placement, kExpAvg), "dhhhhh");
  EXPECT_EQ(tiers_of(short_of_it, kExpAvg), "dhhhnn");
}

TEST(PlaceNearest, AWish_IsForAllOfItsKind) {
  JobFacts job = job_facts();
  job.kinds[kExpAvg].wish = Tier::nvme;
  job.kinds[kExpAvgSq].wish = Tier::host;

  const Placement placement = place_nearest(job, {.device = kMasters, .host = kMasters});

  EXPECT_EQ(tiers_of(placement, kMaster), "dddddd");
  EXPECT_EQ(tiers_of(placement, kExpAvg), "nnnnnn");
  EXPECT_EQ(tiers_of(placement, kExpAvgSq), "hhhhhh");
}

TEST(PlaceNearest, OneMomentWithoutAWish_IsPlacedAlone) {
  JobFacts job = job_facts();
  job.kinds[kExpAvgSq].wish = Tier::nvme;

  EXPECT_EQ(tiers_of(place_nearest(job, {.device = kMasters + 800, .host = kMoments}), kExpAvg), "ddhhhh");
}

TEST(PlaceNearest, ExtentsOfFrozenUnits_AreWithoutState) {
  JobFacts job = job_facts();
  for (const Kind kind : {kMaster, kExpAvg, kExpAvgSq})
    for (std::size_t extent = 0; extent < 2; ++extent)
      job.kinds[kind].bytes[extent] = job.kinds[kind].memory_bytes[extent] = 0;
  job.kinds[kMaster].wish = Tier::nvme;

  const Placement placement = place_nearest(job, {});

  EXPECT_EQ(tiers_of(placement, kMaster), "ddnnnn");
  EXPECT_EQ(tiers_of(placement, kExpAvg), "ddnnnn");
}

TEST(Placement, ParametersThatAreNotWholeInOneMemory_TakeMemoryToCollectThem) {
  JobFacts job = job_facts();
  job.parameter_bytes = 500;
  const std::size_t host = kMasters + kMoments;

  EXPECT_EQ(place_nearest(job, {.device = kMasters, .host = host}).parameter_bytes(job), 0U);
  const Placement split = place_nearest(job, {.device = kMasters - 200, .host = host});
  EXPECT_EQ(tiers_of(split, kMaster), "ddddhh");
  EXPECT_EQ(split.parameter_bytes(job), 500U);
  EXPECT_EQ(place_nearest(job, {.device = 400, .host = host}).parameter_bytes(job), 0U);  // a unit here, a unit there
  job.kinds[kWeight].wish = Tier::nvme;
  EXPECT_EQ(place_nearest(job, {.device = kMasters, .host = host}).parameter_bytes(job), 500U);
}

constexpr auto kGrad = static_cast<Kind>(kGradientKind);
constexpr std::size_t kEach = 256;

/// Beside a GPU: a persistent unit and eight blocks, kEach bytes an extent and kind. The first block has two extents.
JobFacts streaming_facts() {
  const std::vector<std::size_t> each(10, kEach), none(10);
  std::vector<std::size_t> weights = each;
  weights[1] = 2 * kEach;
  weights[2] = 0;
  JobFacts job;
  job.program.stage_units = {0, 1, 2, 3, 4, 5, 6, 7, 8, 0};
  job.program.units.resize(9);
  job.program.units.front().persistent = true;
  job.program.micro_batches = job.program.group_size = 2;
  job.extent_units = {0, 1, 1, 2, 3, 4, 5, 6, 7, 8};
  job.kinds = {{.name = "weight", .bytes = each, .memory_bytes = weights, .leaves = 1, .whole_units = true},
               {.name = "master", .bytes = none, .memory_bytes = none},
               {.name = "exp_avg", .bytes = each, .memory_bytes = each, .leaves = 4},
               {.name = "exp_avg_sq", .bytes = none, .memory_bytes = none},
               {.name = entry::kGrad,
                .bytes = each,
                .memory_bytes = each,
                .leaves = 2,
                .whole_units = true,
                .farthest = Tier::host}};
  job.ring_slots = 1;
  job.link_places = 1;
  job.store_alignment = 16;
  job.gathered_bytes.assign(9, kEach);
  job.gathered_bytes[1] = 2 * kEach;
  job.gpu.present = true;
  return job;
}

TEST(PlaceNearest, GradientsAndWeights_LeaveByUnitWhenNoMomentIsLeft) {
  const JobFacts job = streaming_facts();
  const auto at = [&](std::size_t extents) { return place_nearest(job, {.device = extents * kEach, .host = 10'000}); };

  const Placement moments_out = at(9 + 9 + 1);  // and a place of the link's ring
  const Placement gradients_out = at(9 + 5 + 2 + 2);
  const Placement weights_out = at(4 + 4 + 2 + 3);
  const Placement nothing = at(0);

  EXPECT_EQ(tiers_of(moments_out, kExpAvg), "hhhhhhhhhh");
  EXPECT_EQ(tiers_of(moments_out, kGrad), "dddddddddd");
  EXPECT_EQ(tiers_of(gradients_out, kGrad), "ddddddhhhh");
  EXPECT_EQ(tiers_of(gradients_out, kWeight), "dddddddddd");
  EXPECT_EQ(gradients_out.gradient_slot_bytes(job), 2 * kEach);
  EXPECT_EQ(gradients_out.gathered_bytes(job), 0U);
  EXPECT_EQ(tiers_of(weights_out, kWeight), "dddddhhhhh");
  EXPECT_EQ(weights_out.gathered_bytes(job), 2 * kEach);
  EXPECT_EQ(tiers_of(weights_out, kGrad), "dhhhhhhhhh");
  EXPECT_EQ(weights_out.gradient_slot_bytes(job), 2 * 2 * kEach);
  EXPECT_EQ(weights_out.streamed_units(job),
            (std::vector<bool>{false, false, false, false, true, true, true, true, true}));
  // In a place of its own the persistent unit takes as much.
  EXPECT_EQ(tiers_of(nothing, kWeight), "dhhhhhhhhh");
  EXPECT_EQ(tiers_of(nothing, kGrad), "dhhhhhhhhh");
}

TEST(PlaceNearest, PageTablesOfPinnedMemory_TakeRoomOfTheDevice) {
  JobFacts job = streaming_facts();
  const Budgets budgets{.device = 19 * kEach, .host = 100 * kEach, .host_source = "memory.host"};
  const Candidate without = place(job, budgets, {.group_size = 2});
  job.gpu.pinned_to_a_byte_of_tables = 16;

  const Candidate with = place(job, budgets, {.group_size = 2});

  std::size_t pinned = with.placement.ring_bytes(job);
  for (std::size_t kind = 0; kind < job.kinds.size(); ++kind) pinned += with.placement.bytes(job, kind, Tier::host);
  EXPECT_EQ(without.ledger.bytes(entry::kPageTables), 0U);
  EXPECT_GT(pinned, 0U);
  EXPECT_EQ(with.ledger.bytes(entry::kPageTables), pinned / 16);
  EXPECT_LE(with.ledger.peak(Tier::device), *budgets.device);
  EXPECT_GT(with.ledger.peak(Tier::host), without.ledger.peak(Tier::host));
}

TEST(PlaceNearest, Gradients_NeverGoToNvme) {
  const Placement placement = place_nearest(streaming_facts(), {.device = 0, .host = 7 * kEach});

  EXPECT_EQ(tiers_of(placement, kGrad), "dhhhhhhhhh");
  EXPECT_EQ(tiers_of(placement, kExpAvg), "nnnnnnnnnn");
}

TEST(PlaceNearest, Gradients_RestInHostMemoryOnlyWhereAStepIsOneGroup) {
  JobFacts job = streaming_facts();
  const Budgets budgets{.device = (10 + 6 + 2 + 2) * kEach, .host = 100 * kEach, .host_source = "memory.host"};

  const Candidate one_group = place(job, budgets, {.group_size = 2});
  const Candidate two_groups = place(job, budgets, {.group_size = 1});

  EXPECT_TRUE(one_group.shortage.empty()) << one_group.shortage;
  EXPECT_EQ(one_group.ledger.bytes(entry::kGrad, Tier::device), 6 * kEach);
  EXPECT_EQ(one_group.ledger.bytes(entry::kGrad, Tier::host), 4 * kEach);
  EXPECT_EQ(one_group.ledger.bytes(entry::kGradientsOut), 2 * kEach);
  EXPECT_EQ(one_group.ledger.peak(Tier::device), *budgets.device);
  EXPECT_EQ(two_groups.ledger.bytes(entry::kGrad, Tier::device), 10 * kEach);
  EXPECT_EQ(two_groups.ledger.bytes(entry::kGrad, Tier::host), 0U);
}

TEST(PlaceNearest, ARefusalOfSeveralGroups_SaysThatGradientsStay) {
  JobFacts job = streaming_facts();
  job.program.group_size = 1;
  const Budgets budgets{.device = 10 * kEach, .host = 100 * kEach, .host_source = "memory.host"};
  const auto refusal = [&] {
    try {
      (void)make_plan(job, budgets);
    } catch (const PlanError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };

  EXPECT_NE(refusal().find("only where a step is one group"), std::string::npos) << refusal();
  job.program.micro_batches = 1;
  job.kinds[kWeight].wish = Tier::device;
  EXPECT_NE(refusal().find("does not fit"), std::string::npos) << refusal();
  EXPECT_EQ(refusal().find("only where a step is one group"), std::string::npos) << refusal();
}

TEST(Placement, WhatOfAnExtentIsInHostMemory_PassesTheLinkWithIt) {
  JobFacts job = streaming_facts();
  job.kinds[kGrad].wish = job.kinds[kWeight].wish = Tier::host;
  job.kinds[kExpAvg].wish = Tier::device;
  job.program.units[2].trainable = false;
  Placement placement = Placement::wished(job);
  placement.tiers[kExpAvg][1] = Tier::nvme;

  EXPECT_EQ(placement.link_offsets(job), (std::vector<std::size_t>{0, 256, 256, 256, 256, 512}));
  EXPECT_TRUE(placement.passes_link(job, 0));
  EXPECT_FALSE(placement.passes_link(job, 1));  // it passes the other ring
  EXPECT_FALSE(placement.passes_link(job, 3));  // frozen
  EXPECT_EQ(placement.gathered_bytes(job), kEach + 2 * 2 * kEach);
  job.gpu.present = false;  // one memory
  EXPECT_EQ(placement.gathered_bytes(job), 0U);
  EXPECT_EQ(placement.gradient_slot_bytes(job), 0U);
}

/// Six extents of 2 MiB of one kind beside a GPU.
TEST(LinkRing, TakesNoMorePlacesThanItNeeds_AndNeverMoreThanTheDeviceHas) {
  constexpr std::size_t kMiB = std::size_t{1} << 20, kExtent = 2 * kMiB;
  const std::vector<std::size_t> none(6), bytes(6, kExtent);
  JobFacts facts;
  facts.program = {.stage_units = {0}, .stage_backward = {}, .units = {{.persistent = true}}};
  facts.kinds = {{.name = "weight", .bytes = none, .memory_bytes = none},
                 {.name = "master", .bytes = none, .memory_bytes = none},
                 {.name = "exp_avg", .bytes = bytes, .memory_bytes = bytes, .leaves = 1}};
  facts.extent_units.assign(6, 0);
  facts.gpu.present = true;
  for (std::size_t device = 0; device <= 14 * kMiB; device += kMiB / 2) {
    SCOPED_TRACE(device);
    const Budgets budgets{.device = device, .host = 64 * kMiB};

    const Candidate found = place(facts, budgets, {});

    const std::size_t on_host = found.placement.bytes(facts, 2, Tier::host) / kExtent;
    EXPECT_EQ(found.ledger.bytes(entry::kLinkRing), std::min<std::size_t>(on_host, 4) * kExtent);
    if (!found.shortage.empty()) continue;
    EXPECT_LE(found.ledger.peak(Tier::device), device);
    if (device >= 12 * kMiB) {
      EXPECT_EQ(on_host, 0U);
    }
  }
  facts.gpu.present = false;  // one memory: nothing passes
  EXPECT_EQ(place(facts, {.device = 4 * kMiB, .host = 64 * kMiB}, {}).ledger.bytes(entry::kLinkRing), 0U);
}

}  // namespace
}  // namespace spillway::plan
