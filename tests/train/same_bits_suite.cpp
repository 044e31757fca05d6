// SPDX-License-Identifier: Apache-2.0
#include "train/same_bits_suite.hpp"

#include <algorithm>
#include <utility>

#include <gtest/gtest.h>

#include "kernels/cpu/cpu_kernels.hpp"
#include "train/spread_state.hpp"
#include "train/state_places.hpp"

namespace spillway::test {
namespace {

using train::StateKind;
using train::StoreChoice;
using train::TierChoice;

constexpr int kSteps = kPlacedSteps;
constexpr auto kDevice = TierChoice::device;
constexpr auto kHost = TierChoice::host;
constexpr auto kNvme = TierChoice::nvme;
constexpr auto kOnNvme = plan::Tier::nvme;

const char* name_of(TierChoice tier) { return tier == kNvme ? "nvme" : tier == kHost ? "host" : "device"; }

plan::Tier tier_of(TierChoice choice) {
  return choice == kNvme ? plan::Tier::nvme : choice == kHost ? plan::Tier::host : plan::Tier::device;
}

/// Every element of every kind on nvme is read and written once a step.
void expect_traffic(Trainee& trainee) {
  const train::Job& job = trainee.job();
  std::size_t least = 0;
  for (const StateKind kind : train::kAllStateKinds)
    for (int unit = 0; unit < job.map->units(); ++unit)
      if (job.units[static_cast<std::size_t>(unit)].trainable)
        least += kSteps * job.plan.placement.unit_bytes(job.facts, static_cast<std::size_t>(kind), unit, kOnNvme);
  if (least == 0) {
    EXPECT_EQ(trainee.engine().store(), nullptr);
    return;
  }
  const auto counters = trainee.engine().store()->counters();
  EXPECT_GE(counters.read_bytes, least);
  EXPECT_GE(counters.written_bytes, least);
}

void expect_tiers_used(const train::Job& job, const Placement& placement) {
  const std::array<TierChoice, train::kStateKinds> tiers = {placement.weight, placement.master, placement.exp_avg,
                                                            placement.exp_avg_sq};
  for (const StateKind kind : train::kAllStateKinds) {
    std::size_t owned = 0;
    for (int unit = 0; unit < job.map->units(); ++unit)
      owned += job.state->bytes(kind, unit, job.zero.owned(unit).size());
    const plan::Tier tier = tier_of(tiers[static_cast<std::size_t>(kind)]);
    EXPECT_GE(job.plan.ledger.bytes(train::StatePlaces::entry_name(kind, *job.state), tier), owned)
        << train::name_of(kind);
  }
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Numerics& numerics) {
  constexpr const char* kFormats[] = {"fp32", "bf16", "int8"};
  return out << (numerics.precision == train::Precision::bf16 ? "bf16" : "fp32")
             << (numerics.optimizer == train::OptimizerName::adamw ? ", AdamW in " : ", Adafactor in ")
             << kFormats[static_cast<int>(numerics.state_format)]
             << (numerics.fp32_gradients ? ", gradients in fp32" : "")
             << (numerics.freeze_encoder ? ", the encoder frozen" : "")
             << (numerics.two_groups ? ", in two groups" : "") << (numerics.one_batch ? ", in one batch" : "");
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
  if (numerics.one_batch) options.train.per_device_train_batch_size = options.train.global_batch_size;
}

std::ostream& operator<<(std::ostream& out, const Placement& placement) {
  constexpr const char* kStores[] = {"auto", "uring", "posix", "memory"};
  constexpr const char* kSpreads[] = {"", ", moments on device and host", ", moments on host and nvme",
                                      ", moments on device, host and nvme", ", masters on device and host"};
  out << "stage " << placement.stage << ", weight on " << name_of(placement.weight) << ", master on "
      << name_of(placement.master) << ", exp_avg on " << name_of(placement.exp_avg) << ", exp_avg_sq on "
      << name_of(placement.exp_avg_sq) << ", store " << kStores[static_cast<int>(placement.store)]
      << (placement.recompute ? ", recomputing" : "") << (placement.host_residuals ? ", residuals on host" : "")
      << kSpreads[static_cast<int>(placement.spread)];
  constexpr const char* kOptimizers[] = {"", ", updated by the CPU", ", updated by the GPU", ", updated by both"};
  out << kOptimizers[static_cast<int>(placement.optimizer_on)];
  if (placement.host) out << ", " << *placement.host;
  if (placement.nodes > 1) out << ", on " << placement.nodes << " nodes";
  return out;
}

bool can_spread(const Numerics& numerics, Spread spread) {
  if (spread == Spread::none) return true;
  return spread == Spread::masters ? numerics.precision == train::Precision::bf16
                                   : numerics.optimizer == train::OptimizerName::adamw;
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
  all.push_back({.stage = 0, .spread = Spread::device_host});
  all.push_back({.stage = 3, .store = memory, .spread = Spread::host_nvme});
  all.push_back({.stage = 2, .store = memory, .recompute = true, .spread = Spread::device_host_nvme});
  all.push_back({.stage = 1, .store = memory, .spread = Spread::masters});
  all.push_back({.stage = 0, .host_residuals = true});
  all.push_back({.stage = 3, .exp_avg = kNvme, .exp_avg_sq = kHost, .store = memory, .host_residuals = true});
  if (ranks % 2 == 0)
    for (const int stage : {1, 3}) {
      all.push_back({.stage = stage, .nodes = 2});
      all.push_back(
          {.stage = stage, .weight = kNvme, .exp_avg = kNvme, .exp_avg_sq = kHost, .store = memory, .nodes = 2});
    }
  return all;
}

train::EngineSwitches kernels_beside_gpu() {
  const auto device = kernels::cpu::make_thread_pool(1), host = kernels::cpu::make_thread_pool(2);
  train::EngineSwitches switches;
  switches.kernels.emplace(train::KernelSet{.model = kernels::cpu::make_model_ops(device),
                                            .optimizer = kernels::cpu::make_optimizer_ops(device),
                                            .generation = kernels::cpu::make_generation_ops(device),
                                            .cpu_optimizer = kernels::cpu::make_optimizer_ops(host)});
  return switches;
}

std::vector<Placement> placements_beside_gpu() {
  using enum StoreChoice;
  using train::OptimizerPlace;
  std::vector<Placement> all;
  for (const OptimizerPlace place : {OptimizerPlace::cpu, OptimizerPlace::split, OptimizerPlace::gpu}) {
    all.push_back({.stage = 0, .exp_avg = kHost, .exp_avg_sq = kHost, .optimizer_on = place});
    all.push_back({.stage = 3, .master = kHost, .exp_avg = kHost, .exp_avg_sq = kHost, .optimizer_on = place});
    all.push_back(
        {.stage = 3, .master = kHost, .exp_avg = kNvme, .exp_avg_sq = kNvme, .store = memory, .optimizer_on = place});
    all.push_back({.stage = 0,
                   .weight = kNvme,
                   .master = kNvme,
                   .exp_avg = kHost,
                   .exp_avg_sq = kNvme,
                   .store = memory,
                   .optimizer_on = place});
    all.push_back({.stage = 0, .spread = Spread::device_host, .optimizer_on = place});
    for (const HostState host : {HostState::everything, HostState::planned})
      all.push_back({.stage = 0, .store = memory, .host = host, .optimizer_on = place});
    all.push_back(
        {.stage = 2, .store = memory, .recompute = true, .spread = Spread::device_host_nvme, .optimizer_on = place});
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
                         comm::Communicator& communicator, Device* gpu, train::EngineSwitches switches,
                         const Course& course) {
  train::RunOptions options = training_options(folder);
  if (course.saving != train::Saving::blocking) options.checkpoint.save_steps = kSteps;
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
  options.offload.optimizer_on = placement.optimizer_on;
  options.train.gradient_checkpointing = placement.host_residuals ? train::GradientCheckpointing::host
                                         : placement.recompute    ? train::GradientCheckpointing::on
                                                                  : train::GradientCheckpointing::off;
  if (placement.nodes > 1) options.zero.shard_group = train::ShardGroup::node;
  const auto replan = [&](train::Job& job) {
    plan::Shape shape = job.plan.shape();
    if (placement.host_residuals) shape.host_stages = plan::stages_again(job.facts, shape.first_kept_stage);
    if (numerics.two_groups) shape.group_size = (job.micro_batches + 1) / 2;
    constexpr std::size_t kPlenty = std::size_t{1} << 40;
    job.plan =
        plan::plan_of(job.facts, plan::place(job.facts, {.device = kPlenty, .host = kPlenty, .nvme = kPlenty}, shape));
    EXPECT_EQ(job.plan.program.groups, numerics.two_groups ? 2 : 1);
    if (placement.spread != Spread::none) spread_state(job, placement.spread, shape);
    if (placement.host) move_to_host(job, *placement.host, shape);
    add_snapshot(job, course.saving == train::Saving::in_pieces
                          ? train::snapshot_layout(job).least_bytes() + train::snapshot_factor_bytes(job)
                          : kPlenty);
    EXPECT_EQ(train::saving_of(job), course.saving);
  };
  Trainee trainee(options, communicator, std::move(switches), replan,
                  comm::NodeLayout::filled(placement.nodes, communicator.size() / placement.nodes), gpu);

  if (course.run) course.run(trainee);
  else trainee.run(kSteps);
  const StateHashes hashes = trainee.hashes();

  EXPECT_GT(trainee.job().pass.dropout, 0.0F);
  for (const double norm : trainee.gradient_norms()) EXPECT_GT(norm, options.train.max_grad_norm);
  if (placement.spread == Spread::none && !placement.host) expect_tiers_used(trainee.job(), placement);
  expect_traffic(trainee);
  using train::OptimizerPlace;
  if (placement.optimizer_on == OptimizerPlace::cpu || placement.optimizer_on == OptimizerPlace::split) {
    EXPECT_FALSE(trainee.job().plan.placement.on_cpu.empty());
  }
  return hashes;
}

}  // namespace spillway::test
