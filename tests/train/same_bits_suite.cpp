// SPDX-License-Identifier: Apache-2.0
#include "train/same_bits_suite.hpp"

#include <algorithm>

#include <gtest/gtest.h>

namespace spillway::test {
namespace {

using train::StoreChoice;
using train::TierChoice;

constexpr int kSteps = 10;

const char* name_of(TierChoice tier) {
  return tier == TierChoice::nvme ? "nvme" : tier == TierChoice::host ? "host" : "device";
}

plan::Tier tier_of(TierChoice choice) {
  return choice == TierChoice::nvme   ? plan::Tier::nvme
         : choice == TierChoice::host ? plan::Tier::host
                                      : plan::Tier::device;
}

/// Bytes that the ledger has for an entry on a tier.
std::size_t ledger_bytes(const plan::Ledger& ledger, const std::string& name, plan::Tier tier) {
  const auto& entries = ledger.entries();
  const auto found = std::find_if(entries.begin(), entries.end(), [&](const plan::LedgerEntry& entry) {
    return entry.name == name && entry.tier == tier;
  });
  return found == entries.end() ? 0 : found->bytes;
}

void expect_tiers_used(Trainee& trainee, const Placement& placement) {
  const plan::Ledger& ledger = trainee.job().plan.ledger;
  EXPECT_GT(ledger_bytes(ledger, plan::entry::kExpAvg, tier_of(placement.exp_avg)), 0U);
  EXPECT_GT(ledger_bytes(ledger, plan::entry::kExpAvgSq, tier_of(placement.exp_avg_sq)), 0U);
  std::size_t kinds_on_nvme = 0;
  for (const TierChoice tier : {placement.exp_avg, placement.exp_avg_sq}) kinds_on_nvme += tier == TierChoice::nvme;
  if (kinds_on_nvme == 0) {
    EXPECT_EQ(trainee.engine().store(), nullptr);
    return;
  }
  // Every element of every kind is read and written once a step, whatever its extents are.
  const auto counters = trainee.engine().store()->counters();
  const std::size_t least =
      kSteps * kinds_on_nvme * static_cast<std::size_t>(trainee.job().zero.owned_elements()) * sizeof(float);
  EXPECT_GE(counters.read_bytes, least);
  EXPECT_GE(counters.written_bytes, least);
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Placement& placement) {
  constexpr const char* kStores[] = {"auto", "uring", "posix", "memory"};
  return out << "stage " << placement.stage << ", exp_avg on " << name_of(placement.exp_avg) << ", exp_avg_sq on "
             << name_of(placement.exp_avg_sq) << ", store " << kStores[static_cast<int>(placement.store)]
             << (placement.recompute ? ", recomputing" : "");
}

std::vector<Placement> placements() {
  constexpr auto kDevice = TierChoice::device;
  constexpr auto kHost = TierChoice::host;
  constexpr auto kNvme = TierChoice::nvme;
  std::vector<Placement> all;
  for (const int stage : {0, 3}) {
    all.push_back({stage, kDevice, kDevice});
    all.push_back({stage, kDevice, kDevice, StoreChoice::automatic, true});
    all.push_back({stage, kHost, kHost});
    all.push_back({stage, kNvme, kNvme, StoreChoice::memory});
    all.push_back({stage, kNvme, kNvme, StoreChoice::posix});
    if (offload::uring_compiled()) all.push_back({stage, kNvme, kNvme, StoreChoice::uring, true});
  }
  all.push_back({3, kNvme, kHost, StoreChoice::posix});
  all.push_back({3, kDevice, kNvme, StoreChoice::memory});
  return all;
}

StateHashes train_placed(const std::string& folder, const Placement& placement, comm::Communicator& communicator) {
  train::RunOptions options = training_options(folder);
  options.zero.stage = placement.stage;
  options.offload.exp_avg = placement.exp_avg;
  options.offload.exp_avg_sq = placement.exp_avg_sq;
  options.offload.store = placement.store;
  options.train.gradient_checkpointing =
      placement.recompute ? train::GradientCheckpointing::on : train::GradientCheckpointing::off;
  Trainee trainee(options, communicator);

  trainee.run(kSteps);
  const StateHashes hashes = trainee.hashes();

  EXPECT_GT(trainee.job().pass.dropout, 0.0F);
  for (const double norm : trainee.gradient_norms()) EXPECT_GT(norm, options.train.max_grad_norm);
  expect_tiers_used(trainee, placement);
  return hashes;
}

}  // namespace spillway::test
