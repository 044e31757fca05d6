// SPDX-License-Identifier: Apache-2.0
#include "train/same_bits_suite.hpp"

#include <algorithm>

#include <gtest/gtest.h>

namespace spillway::test {
namespace {

using train::StateKind;
using train::StoreChoice;
using train::TierChoice;

constexpr int kSteps = 10;
constexpr auto kDevice = TierChoice::device;
constexpr auto kHost = TierChoice::host;
constexpr auto kNvme = TierChoice::nvme;

const char* name_of(TierChoice tier) { return tier == kNvme ? "nvme" : tier == kHost ? "host" : "device"; }

plan::Tier tier_of(TierChoice choice) {
  return choice == kNvme ? plan::Tier::nvme : choice == kHost ? plan::Tier::host : plan::Tier::device;
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
  const train::Job& job = trainee.job();
  const std::array<TierChoice, train::kStateKinds> tiers = {placement.weight, placement.master, placement.exp_avg,
                                                            placement.exp_avg_sq};
  std::size_t least =
      0;  // every element of every kind on nvme is read and written once a step, whatever its extents are
  for (const StateKind kind : train::kAllStateKinds) {
    std::size_t owned = 0;
    for (int unit = 0; unit < job.map->units(); ++unit)
      owned += job.state->bytes(kind, unit, job.zero.owned(unit).size());
    if (owned == 0) continue;
    std::size_t updated = 0;  // of units that are trained
    for (int unit = 0; unit < job.map->units(); ++unit)
      if (job.units[static_cast<std::size_t>(unit)].trainable)
        updated += job.state->bytes(kind, unit, job.zero.owned(unit).size());
    const TierChoice tier = tiers[static_cast<std::size_t>(kind)];
    EXPECT_GE(ledger_bytes(job.plan.ledger, train::ShardState::entry_name(kind, *job.state), tier_of(tier)), owned)
        << train::name_of(kind);
    if (tier == kNvme) least += kSteps * updated;
  }
  if (least == 0) {
    EXPECT_EQ(trainee.engine().store(), nullptr);
    return;
  }
  const auto counters = trainee.engine().store()->counters();
  EXPECT_GE(counters.read_bytes, least);
  EXPECT_GE(counters.written_bytes, least);
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Numerics& numerics) {
  constexpr const char* kFormats[] = {"fp32", "bf16", "int8"};
  return out << (numerics.precision == train::Precision::bf16 ? "bf16" : "fp32")
             << (numerics.optimizer == train::OptimizerName::adamw ? ", AdamW in " : ", Adafactor in ")
             << kFormats[static_cast<int>(numerics.state_format)]
             << (numerics.fp32_gradients ? ", gradients in fp32" : "")
             << (numerics.freeze_encoder ? ", the encoder frozen" : "")
             << (numerics.two_groups ? ", in two groups" : "");
}

std::vector<Numerics> all_numerics() {
  using train::OptimizerName;
  using train::Precision;
  using train::StateFormat;
  return {{},
          {.precision = Precision::bf16},
          {.precision = Precision::bf16, .state_format = StateFormat::bf16},
          {.precision = Precision::bf16, .state_format = StateFormat::int8, .fp32_gradients = true},
          {.state_format = StateFormat::int8},
          {.optimizer = OptimizerName::adafactor},
          {.precision = Precision::bf16, .freeze_encoder = true, .two_groups = true},
          {.two_groups = true},
          {.precision = Precision::bf16, .optimizer = OptimizerName::adafactor}};
}

void set_numerics(train::RunOptions& options, const Numerics& numerics) {
  options.train.precision = numerics.precision;
  options.optimizer.state_format = numerics.state_format;
  options.optimizer.name = numerics.optimizer;
  options.optimizer.scale_parameter = numerics.optimizer == train::OptimizerName::adafactor;
  if (numerics.fp32_gradients) options.zero.reduce_dtype = options.zero.grad_dtype = train::GradientDType::fp32;
  options.train.freeze_encoder = numerics.freeze_encoder;
  if (numerics.two_groups) options.train.per_device_train_batch_size = 1;
}

std::ostream& operator<<(std::ostream& out, const Placement& placement) {
  constexpr const char* kStores[] = {"auto", "uring", "posix", "memory"};
  out << "stage " << placement.stage << ", weight on " << name_of(placement.weight) << ", master on "
      << name_of(placement.master) << ", exp_avg on " << name_of(placement.exp_avg) << ", exp_avg_sq on "
      << name_of(placement.exp_avg_sq) << ", store " << kStores[static_cast<int>(placement.store)]
      << (placement.recompute ? ", recomputing" : "");
  if (placement.nodes > 1) out << ", on " << placement.nodes << " nodes";
  return out;
}

std::vector<Placement> placements(int ranks) {
  using enum StoreChoice;
  std::vector<Placement> all;
  for (const int stage : {0, 1, 2, 3}) {
    all.push_back({.stage = stage});
    all.push_back({.stage = stage, .exp_avg = kNvme, .exp_avg_sq = kNvme, .store = memory, .recompute = true});
    all.push_back(
        {.stage = stage, .weight = kNvme, .master = kNvme, .exp_avg = kHost, .exp_avg_sq = kNvme, .store = posix});
  }
  all.push_back({.stage = 0, .weight = kHost, .master = kHost, .exp_avg = kHost, .exp_avg_sq = kHost});
  all.push_back({.stage = 3, .master = kNvme, .exp_avg_sq = kNvme, .store = posix});
  all.push_back({.stage = 3, .weight = kNvme, .store = memory});
  if (offload::uring_compiled()) {
    all.push_back(
        {.stage = 3, .weight = kNvme, .master = kNvme, .exp_avg = kNvme, .exp_avg_sq = kNvme, .store = uring});
    all.push_back({.stage = 0, .exp_avg = kNvme, .exp_avg_sq = kNvme, .store = uring, .recompute = true});
  }
  if (ranks % 2 == 0)
    for (const int stage : {1, 3}) {
      all.push_back({.stage = stage, .nodes = 2});
      all.push_back(
          {.stage = stage, .weight = kNvme, .exp_avg = kNvme, .exp_avg_sq = kHost, .store = memory, .nodes = 2});
    }
  return all;
}

std::vector<Placement> every_combination_of_tiers() {
  constexpr TierChoice kTiers[] = {TierChoice::device, kHost, kNvme};
  std::vector<Placement> all;
  for (const TierChoice weight : kTiers)
    for (const TierChoice master : kTiers)
      for (const TierChoice exp_avg : kTiers)
        for (const TierChoice exp_avg_sq : kTiers)
          all.push_back({.stage = static_cast<int>(all.size() % 4),
                         .weight = weight,
                         .master = master,
                         .exp_avg = exp_avg,
                         .exp_avg_sq = exp_avg_sq,
                         .store = train::StoreChoice::memory});
  return all;
}

StateHashes train_placed(const std::string& folder, const Numerics& numerics, const Placement& placement,
                         comm::Communicator& communicator, Device* gpu) {
  train::RunOptions options = training_options(folder);
  set_numerics(options, numerics);
  options.zero.stage = placement.stage;
  options.offload.weight = placement.weight;
  // In fp32 the weight is its own master.
  options.offload.master = numerics.precision == train::Precision::bf16 ? placement.master : placement.weight;
  if (numerics.optimizer == train::OptimizerName::adamw) {
    options.offload.exp_avg = placement.exp_avg;
    options.offload.exp_avg_sq = placement.exp_avg_sq;
  }
  options.offload.store = placement.store;
  options.train.gradient_checkpointing =
      placement.recompute ? train::GradientCheckpointing::on : train::GradientCheckpointing::off;
  if (placement.nodes > 1) options.zero.shard_group = train::ShardGroup::node;
  const auto in_two_groups = [](train::Job& job) {
    constexpr std::size_t kPlenty = std::size_t{1} << 40;
    plan::JobFacts facts = job.facts;
    facts.program.group_size = (job.micro_batches + 1) / 2;
    job.plan = plan::make_plan(facts, {.device = kPlenty, .host = kPlenty, .nvme = kPlenty});
    EXPECT_EQ(job.plan.program.groups, 2);
  };
  Trainee trainee(options, communicator, {}, numerics.two_groups ? in_two_groups : std::function<void(train::Job&)>(),
                  comm::NodeLayout::filled(placement.nodes, communicator.size() / placement.nodes), gpu);

  trainee.run(kSteps);
  const StateHashes hashes = trainee.hashes();

  EXPECT_GT(trainee.job().pass.dropout, 0.0F);
  for (const double norm : trainee.gradient_norms()) EXPECT_GT(norm, options.train.max_grad_norm);
  expect_tiers_used(trainee, placement);
  return hashes;
}

}  // namespace spillway::test
