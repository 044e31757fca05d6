// SPDX-License-Identifier: Apache-2.0
#include "train/host_state.hpp"

#include <utility>

#include <gtest/gtest.h>

namespace spillway::test {
namespace {

using plan::Tier;
using train::StateKind;

constexpr std::size_t kPlenty = std::size_t{1} << 40;
constexpr auto kMaster = static_cast<std::size_t>(StateKind::master),
               kExpAvg = static_cast<std::size_t>(StateKind::exp_avg);

plan::Candidate by_unit(const plan::JobFacts& facts, const plan::Shape& shape) {
  plan::Placement placement = plan::Placement::wished(facts);
  const int last = facts.extent_units.back();
  for (std::size_t extent = 0; extent < facts.extent_units.size(); ++extent) {
    const int unit = facts.extent_units[extent];
    const auto put = [&](std::size_t kind, Tier tier) {
      if (facts.kinds[kind].bytes[extent] > 0) placement.tiers[kind][extent] = tier;
    };
    if (unit % 2 == 0) put(plan::kWeightKind, Tier::host);
    if (unit == 3) put(plan::kWeightKind, Tier::nvme);
    if (unit % 2 == 1 && facts.program.micro_batches == shape.group_size) put(plan::kGradientKind, Tier::host);
    if (extent % 2 == 1) put(kMaster, Tier::host);
    if (unit == last) put(kExpAvg, extent % 2 == 0 ? Tier::nvme : Tier::host);
  }
  return {shape, placement, plan::make_ledger(facts, shape, placement), {}};
}

/// With as much device memory as sends there some units' weights, and gradients where they may go.
plan::Candidate planned(const plan::JobFacts& facts, const plan::Shape& shape) {
  const plan::Candidate all = plan::place(facts, {.device = kPlenty, .host = kPlenty, .nvme = kPlenty}, shape);
  const bool one_group = facts.program.micro_batches == shape.group_size;
  constexpr std::size_t kParts = 256;
  const std::size_t movable = plan::movable_bytes(facts), rest = all.ledger.peak(Tier::device) - movable;
  for (std::size_t part = kParts; part > 0; --part) {
    plan::Candidate candidate =
        plan::place(facts, {.device = rest + movable * part / kParts, .host = kPlenty, .nvme = kPlenty}, shape);
    const auto on_both = [&](std::size_t kind) {
      return candidate.placement.uses(kind, Tier::device) && candidate.placement.uses(kind, Tier::host);
    };
    if (candidate.shortage.empty() && on_both(plan::kWeightKind) && (!one_group || on_both(plan::kGradientKind)))
      return candidate;
  }
  ADD_FAILURE() << "no device memory sends some units' weights to the host";
  return all;
}

}  // namespace

std::ostream& operator<<(std::ostream& out, HostState state) {
  constexpr const char* kNames[] = {"weights", "gradients", "everything", "this and that by unit", "what has no room"};
  return out << kNames[static_cast<int>(state)] << " in host memory";
}

void move_to_host(train::Job& job, HostState state, const plan::Shape& shape) {
  plan::JobFacts& facts = job.facts;
  facts.gpu.present = true;
  constexpr int kLeaves[] = {1, 3, 4, 4, 2};
  for (std::size_t kind = 0; kind < facts.kinds.size(); ++kind) {
    const bool asked = state == HostState::everything || (state == HostState::weights && kind == plan::kWeightKind) ||
                       (state == HostState::gradients && kind == plan::kGradientKind);
    facts.kinds[kind].wish =
        state == HostState::planned ? std::nullopt : std::optional(asked ? Tier::host : Tier::device);
    facts.kinds[kind].leaves = kLeaves[kind];
  }
  plan::Candidate candidate = state == HostState::by_unit ? by_unit(facts, shape)
                              : state == HostState::planned
                                  ? planned(facts, shape)
                                  : plan::place(facts, {.device = kPlenty, .host = kPlenty, .nvme = kPlenty}, shape);
  EXPECT_EQ(candidate.shortage, "");
  job.plan = plan::plan_of(facts, std::move(candidate));
}

}  // namespace spillway::test
