// SPDX-License-Identifier: Apache-2.0
#include "train/shard_state.hpp"

#include <algorithm>
#include <functional>

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "plan/job_ledger.hpp"

namespace spillway::train {
namespace {

using plan::Tier;

constexpr std::int64_t kExtent = 512;

/// One rank's state of two units of 5 and 3 extents, the first in fp32 moments, on tiers as `tier_of` says.
class State {
 public:
  using TierOf = std::function<Tier(StateKind, std::size_t extent)>;

  State(StateLayout::Formats formats, const TierOf& tier_of, bool frozen = false)
      : map_({{"a", {2000}, 0, 0}, {"b", {300}, 0, 2048}, {"c", {30, 50}, 1, 0}}, 1),
        zero_(Zero::over(map_, 0, 0, comm::NodeLayout::filled(1, 1))),
        layout_({{.persistent = true}, {.trainable = !frozen}}, formats),
        extents_(make_extents(zero_, kExtent)) {
    const StatePlaces places(zero_, layout_, extents_, true);
    facts_.program.units = {{.persistent = true}, {.trainable = !frozen}};
    for (const Extent& extent : extents_) facts_.extent_units.push_back(extent.unit);
    for (const StateKind kind : kAllStateKinds)
      facts_.kinds.push_back({.name = StatePlaces::entry_name(kind, layout_),
                              .bytes = places.bytes(kind),
                              .memory_bytes = places.memory_bytes(kind),
                              .wish = {}});
    facts_.transfer_bytes = ShardState::kTransferElements * sizeof(float);
    placement_ = plan::Placement::wished(facts_);
    for (const StateKind kind : kAllStateKinds)
      for (std::size_t extent = 0; extent < extents_.size(); ++extent) {
        const auto k = static_cast<std::size_t>(kind);
        if (facts_.kinds[k].bytes[extent] > 0) placement_.tiers[k][extent] = tier_of(kind, extent);
      }
    arena_ = std::make_unique<Arena>(*device_, plan::make_ledger(facts_, {}, placement_));
    ops_ = kernels::cpu::make_optimizer_ops(kernels::cpu::make_thread_pool(1));
    state_ = std::make_unique<ShardState>(
        zero_, layout_,
        ShardStateOptions{.placement = placement_,
                          .whole_weights = true,
                          .extent_elements = kExtent,
                          .files = {.directories = {"memory"}, .folder = "state", .kinds = {}},
                          .wait_at_once = false},
        *arena_, store_.get(), *ops_, *device_);
  }

  /// Other numbers for each kind and unit, in pieces that end inside extents and blocks; padding stays zero.
  void write() {
    for (const char* kind : {"master", "exp_avg", "exp_avg_sq"})
      for (int unit = 0; unit < 2; ++unit) {
        const std::int64_t size = zero_.owned(unit).size();
        for (std::int64_t begin = 0; begin < size; begin += 700) {
          const Range range{begin, std::min(begin + 700, size)};
          std::vector<float> values;
          for (std::int64_t i = range.begin; i < range.end; ++i)
            values.push_back(0.001F * static_cast<float>((i * 37 + unit * 11 + kind[4]) % 1000) + 0.1F);
          state_->write(kind, unit, range, values);
        }
      }
    state_->finish_writes();
  }
  [[nodiscard]] std::vector<float> read() {
    std::vector<float> all;
    for (const char* kind : {"master", "exp_avg", "exp_avg_sq"})
      for (int unit = 0; unit < 2; ++unit) {
        std::vector<float> values(static_cast<std::size_t>(zero_.owned(unit).size()));
        const std::int64_t middle = zero_.owned(unit).size() / 3;
        state_->read(kind, unit, {0, middle}, std::span(values).first(static_cast<std::size_t>(middle)));
        state_->read(kind, unit, {middle, zero_.owned(unit).size()},
                     std::span(values).subspan(static_cast<std::size_t>(middle)));
        all.insert(all.end(), values.begin(), values.end());
      }
    return all;
  }
  [[nodiscard]] ShardState& state() { return *state_; }
  [[nodiscard]] const plan::JobFacts& facts() const { return facts_; }
  [[nodiscard]] const plan::Placement& placement() const { return placement_; }

 private:
  ShardMap map_;
  Zero zero_;
  StateLayout layout_;
  std::vector<Extent> extents_;
  plan::JobFacts facts_;
  plan::Placement placement_;
  std::unique_ptr<Device> device_ = make_host_device();
  std::unique_ptr<offload::BlockStore> store_ = offload::make_memory_store();
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<kernels::OptimizerOps> ops_;
  std::unique_ptr<ShardState> state_;
};

Tier all_near(StateKind, std::size_t) { return Tier::device; }
/// Neighbouring extents never on one tier, nor the kinds of an extent; weights stay.
Tier mixed(StateKind kind, std::size_t extent) {
  constexpr Tier kTiers[] = {Tier::device, Tier::host, Tier::nvme};
  return kind == StateKind::weight ? Tier::device : kTiers[(extent + static_cast<std::size_t>(kind)) % 3];
}

std::vector<StateLayout::Formats> all_formats() {
  return {{.weight = DType::f32},
          {.weight = DType::bf16, .moment = StorageFormat::bf16},
          {.weight = DType::bf16, .moment = StorageFormat::int8},
          {.weight = DType::f16}};
}

TEST(ShardState, WhatIsWrittenToMixedTiers_IsReadBackAsFromOne) {
  for (const StateLayout::Formats& formats : all_formats())
    for (const bool frozen : {false, true}) {
      State near(formats, all_near, frozen), spread(formats, mixed, frozen);
      near.write();

      spread.write();

      EXPECT_EQ(spread.read(), near.read()) << "weight " << name_of(formats.weight) << (frozen ? ", frozen" : "");
    }
}

TEST(ShardState, OnlyExtentsWithSomethingOnNvme_UseTheRing) {
  State spread({.weight = DType::bf16}, [](StateKind kind, std::size_t extent) {
    return kind == StateKind::exp_avg && extent == 5 ? Tier::nvme : Tier::host;
  });
  ShardState& state = spread.state();

  for (std::size_t extent = 0; extent < state.extents().size(); ++extent)
    EXPECT_EQ(state.uses_ring(extent), extent == 5) << extent;
  EXPECT_TRUE(state.on_nvme(StateKind::exp_avg));
  EXPECT_FALSE(state.on_nvme(StateKind::exp_avg_sq));
  EXPECT_EQ(state.files().kinds(), 1U);
  EXPECT_EQ(state.files().bytes(5, 0), kExtent * sizeof(float));
  EXPECT_EQ(state.files().bytes(4, 0), 0U);
}

TEST(ShardState, TheMemoryOfEachTier_IsWhatThePlanHasForIt) {
  State spread({.weight = DType::bf16}, mixed);
  const plan::Ledger ledger = plan::make_ledger(spread.facts(), {}, spread.placement());

  // Masters 0, 3 and 6; 1, 4 and 7, padded; 2 and 5.
  EXPECT_EQ(ledger.bytes("master", Tier::host), 3U * kExtent * 2);
  EXPECT_EQ(ledger.bytes("master", Tier::nvme), 3U * 4096);
  EXPECT_EQ(ledger.bytes("master", Tier::device), 2U * kExtent * 2);
  EXPECT_EQ(ledger.bytes("weight", Tier::device), 8U * kExtent * 2);
}

TEST(ShardState, Parameters_AreLookedAtInPlaceWhereTheyAreWholeInOneMemory) {
  State spread({.weight = DType::bf16}, [](StateKind kind, std::size_t extent) {
    return kind == StateKind::master && extent < 2 ? Tier::host : Tier::device;
  });
  spread.write();
  ShardState& state = spread.state();

  ASSERT_FALSE(state.parameters_in_memory(0));
  ASSERT_TRUE(state.parameters_in_memory(1));
  const kernels::ParameterView whole = state.parameter(1, {256, 1280});
  const StateViews of_last = state.acquire(7).views();

  EXPECT_EQ(whole.weight.elements(), 1024);
  EXPECT_EQ(whole.master.data() + (1024 - 256) * 2, of_last.parameter.master.data());
  EXPECT_EQ(whole.weight.data() + (1024 - 256) * 2, of_last.parameter.weight.data());
  EXPECT_THROW((void)state.parameter(0, {0, 512}), Error);
}

TEST(ShardState, WeightsOfAUnitOnTwoTiers_AreRefused) {
  const State::TierOf split = [](StateKind, std::size_t extent) { return extent == 1 ? Tier::host : Tier::device; };

  EXPECT_THROW((void)State(StateLayout::Formats(), split), Error);
}

}  // namespace
}  // namespace spillway::train
