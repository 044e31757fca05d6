// SPDX-License-Identifier: Apache-2.0
#include "train/spread_state.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace spillway::test {
namespace {

using train::StateKind;

std::vector<plan::Tier> tiers_of(Spread spread) {
  switch (spread) {
    case Spread::none: break;
    case Spread::device_host:
    case Spread::masters: return {plan::Tier::device, plan::Tier::host};
    case Spread::host_nvme: return {plan::Tier::host, plan::Tier::nvme};
    case Spread::device_host_nvme: return {plan::Tier::device, plan::Tier::host, plan::Tier::nvme};
  }
  return {};
}

bool spreads_a_unit(const train::Job& job, const plan::Placement& placement, Spread spread) {
  const auto kind = static_cast<std::size_t>(spread == Spread::masters ? StateKind::master : StateKind::exp_avg);
  for (int unit = 0; unit < job.map->units(); ++unit)
    if (std::ranges::all_of(tiers_of(spread),
                            [&](plan::Tier tier) { return placement.unit_bytes(job.facts, kind, unit, tier) > 0; }))
      return true;
  return false;
}

}  // namespace

void spread_state(train::Job& job, Spread spread, const plan::Shape& shape) {
  constexpr std::size_t kPlenty = std::size_t{1} << 40;
  constexpr std::size_t kParts = 24;
  for (plan::KindFacts& kind : job.facts.kinds) kind.wish = std::nullopt;
  const plan::Candidate all = plan::place(job.facts, {.device = kPlenty, .host = kPlenty, .nvme = kPlenty}, shape);
  std::size_t movable = 0;
  for (const StateKind kind : {StateKind::master, StateKind::exp_avg, StateKind::exp_avg_sq})
    movable += all.placement.bytes(job.facts, static_cast<std::size_t>(kind), plan::Tier::device);
  const std::size_t device = all.ledger.peak(plan::Tier::device) - movable, host = all.ledger.peak(plan::Tier::host);
  for (std::size_t on_device = 0; on_device <= kParts; ++on_device)
    for (std::size_t on_host = 0; on_host <= 2 * kParts; ++on_host) {
      plan::Budgets budgets{.device = device + movable * on_device / kParts, .nvme = kPlenty};
      budgets.host = host + movable * on_host / kParts + (job.on_gpu ? 0 : *budgets.device);
      plan::Candidate candidate = plan::place(job.facts, budgets, shape);
      if (!candidate.shortage.empty() || !spreads_a_unit(job, candidate.placement, spread)) continue;
      job.plan = plan::plan_of(job.facts, std::move(candidate));
      return;
    }
  ADD_FAILURE() << "no budgets spread the state of a unit so";
}

}  // namespace spillway::test
