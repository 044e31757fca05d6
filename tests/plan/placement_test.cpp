// SPDX-License-Identifier: Apache-2.0
#include "plan/placement.hpp"

#include <gtest/gtest.h>

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
