// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/device_meters.hpp"
#include "model/generator.hpp"
#include "model/t5_model.hpp"
#include "offload/block_store.hpp"
#include "train/arena.hpp"
#include "train/batches.hpp"
#include "train/gradients.hpp"
#include "train/host_gradients.hpp"
#include "train/host_weight_reader.hpp"
#include "train/job.hpp"
#include "train/kernel_set.hpp"
#include "train/nvme_weight_reader.hpp"
#include "train/op_names.hpp"
#include "train/optimizer.hpp"
#include "train/parameters.hpp"
#include "train/rank_groups.hpp"
#include "train/residuals.hpp"
#include "train/shard_state.hpp"
#include "train/stall_clock.hpp"
#include "train/state_snapshot.hpp"
#include "train/step_clock.hpp"
#include "train/step_executor.hpp"
#include "train/trace.hpp"

namespace spillway::train {

/// Switches that only tests and benchmarks set.
struct EngineSwitches {
  bool wait_at_once = false;                             // nothing overlaps: what overlap is worth
  std::unique_ptr<offload::BlockStore> store = nullptr;  // instead of the configured one
  std::optional<KernelSet> kernels = {};                 // instead of the device's own
};

/// Everything that a job's plan asked for, allocated and put together. Members stand in the order in which they need one another.
class Engine {
 public:
  /// Work of this rank alone: see make_engine.
  Engine(const Job& job, Runtime& runtime, std::unique_ptr<RankGroups> groups, EngineSwitches switches);

  /// One optimizer step on this rank's part of a global batch of training samples.
  /// \param samples  indices of examples in drawn order; \param tokens  target tokens of the whole global batch
  /// \param loss_scale  of fp16: an overflow skips the update
  StepResult step(const std::vector<std::int64_t>& samples, std::int64_t tokens, std::int64_t data_step,
                  double learning_rate, std::int64_t optimizer_step, std::optional<double> loss_scale = {});

  /// Losses of some evaluation samples (in nats, summed over their target tokens), in the order given. Collective under stage 3: a
  /// rank without samples calls it too.
  [[nodiscard]] std::vector<double> losses(const std::vector<std::int64_t>& samples);
  /// The best hypotheses for some sources. Collective in the same way.
  [[nodiscard]] std::vector<std::vector<model::Hypothesis>> generate(
      const std::vector<std::span<const std::int32_t>>& sources);
  /// Gathers what evaluation holds throughout; after the update in the background is over.
  void begin_evaluation();
  void end_evaluation();

  [[nodiscard]] const Job& job() const noexcept { return job_; }
  [[nodiscard]] Device& device() const noexcept { return device_; }
  [[nodiscard]] Parameters& parameters() { return *parameters_; }
  /// What this rank owns. Whoever changes weights there calls weights_changed(). No step or update may be under way.
  [[nodiscard]] ShardState& state() { return *state_; }
  void weights_changed();
  [[nodiscard]] StepClock& clock() { return clock_; }
  [[nodiscard]] const offload::BlockStore* store() const { return store_.get(); }
  /// Of the device, and what it has taken as its driver tells; null where there is no link.
  [[nodiscard]] const LinkCounter* link() const { return meters_ != nullptr ? &meters_->link() : nullptr; }
  [[nodiscard]] std::optional<std::size_t> device_bytes_taken() const {
    return meters_ != nullptr ? meters_->taken_bytes() : std::nullopt;
  }
  /// Seconds that the CPUs have updated state so far.
  [[nodiscard]] double cpu_update_seconds() const { return optimizer_ ? optimizer_->cpu_seconds() : 0.0; }
  /// Null unless report.trace asks for one.
  [[nodiscard]] Trace* trace() { return trace_.get(); }
  /// Blocks until the last step's update is over.
  void finish_update();
  /// What a checkpoint can be made of while training goes on; null where the plan has no memory for it.
  [[nodiscard]] StateSnapshot* snapshot() const { return snapshot_.get(); }
  /// Starts to copy the state as the last step's update leaves it into the snapshot. Does not block; the next steps' updates wait as it says.
  /// \return a copy of Adafactor's means, in the order of its kinds, that lives until the next call
  std::span<const float> begin_snapshot();

 private:
  class StepBatches;
  [[nodiscard]] bool persistent(int unit) const { return job_.units[static_cast<std::size_t>(unit)].persistent; }
  void make_state(Runtime& runtime);
  void make_gradients(Runtime& runtime);
  void make_parameters();
  void make_instruments(Runtime& runtime);
  void make_training(Runtime& runtime);
  void make_snapshot();
  void make_evaluation(Runtime& runtime);

  const Job& job_;
  Device& device_;
  const bool wait_at_once_;
  DeviceMeters* const meters_;
  std::unique_ptr<RankGroups> groups_;
  Arena arena_;
  std::unique_ptr<Queue> queue_;
  KernelSet kernels_;
  std::unique_ptr<offload::BlockStore> store_;
  StepClock clock_;
  std::unique_ptr<ShardState> state_;
  std::unique_ptr<HostWeightReader> host_weights_;
  std::unique_ptr<NvmeWeightReader> nvme_weights_;
  std::unique_ptr<HostGradients> host_gradients_;
  std::unique_ptr<Gradients> gradients_;
  std::unique_ptr<Parameters> parameters_;
  std::unique_ptr<ResidualRing> residual_ring_;
  std::unique_ptr<TrainingResiduals> training_residuals_;
  std::unique_ptr<InferenceResiduals> inference_residuals_;
  std::unique_ptr<model::T5Model> training_model_, inference_model_;
  std::unique_ptr<model::Generator> generator_;
  std::vector<BatchMemory> batches_;
  std::optional<OpNames> names_;
  std::optional<StallClock> stalls_;
  std::unique_ptr<Trace> trace_;
  std::span<float> factor_copy_;
  std::unique_ptr<StateSnapshot> snapshot_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<StepExecutor> executor_;
};

/// What the names of an engine's folders in the offload directories begin with.
inline constexpr const char* kScratchPrefix = "spillway-";

/// An engine on every rank. Blocks. \throws AgreedFailure on every rank if any could not make its own
[[nodiscard]] std::unique_ptr<Engine> make_engine(const Job& job, Runtime& runtime, EngineSwitches switches = {});

}  // namespace spillway::train
