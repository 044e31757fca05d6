// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "comm/communicator.hpp"
#include "comm/node_layout.hpp"
#include "core/device.hpp"
#include "core/shard_map.hpp"
#include "data/examples.hpp"
#include "kernels/cpu/thread_placement.hpp"
#include "model/activations.hpp"
#include "model/generator.hpp"
#include "model/stages.hpp"
#include "plan/machine_profile.hpp"
#include "plan/plan.hpp"
#include "plan/simulation.hpp"
#include "train/adafactor_state.hpp"
#include "train/gradients.hpp"
#include "train/model_source.hpp"
#include "train/planned_machine.hpp"
#include "train/run_options.hpp"
#include "train/state_layout.hpp"
#include "train/zero.hpp"

namespace spillway::train {

/// What a run is lent by the program around it.
struct Runtime {
  Device& device;
  comm::Communicator& communicator;
  comm::NodeLayout nodes;                            // of all ranks
  std::optional<plan::MachineProfile> profile = {};  // of this machine, if it is known
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
};

/// What a job is for: it decides what is read and what memory is set aside.
enum class Purpose { train, evaluate, generate };

/// A run as it is known before step 0: the model's shape, the data, who holds what, the plan. Nothing is allocated yet but the data.
struct Job {
  RunOptions options;
  Purpose purpose = Purpose::train;
  ModelSource source;
  std::unique_ptr<model::T5Layout> layout;
  std::unique_ptr<ShardMap> map;
  std::unique_ptr<ShardMap> trainable_map;  // the same without frozen units: what optimizer state there is
  comm::NodeLayout nodes;                   // of all ranks
  Zero zero;
  std::vector<plan::UnitRole> units;
  std::unique_ptr<StateLayout> state;
  std::unique_ptr<AdafactorState> adafactor;  // if that is the optimizer
  GradientLayout gradients;
  std::vector<model::Stage> stages;
  std::unique_ptr<data::Tokenizer> tokenizer;
  std::optional<data::Examples> train_examples, eval_examples;

  std::int64_t global_batch_size = 0;
  int micro_batches = 1;  // of one rank in one step
  std::int64_t total_steps = 0;
  model::BatchLimits train_limits, eval_limits;
  model::GenerationLimits generation;  // items 0: no generation
  model::PassOptions pass;             // of training
  std::int64_t extent_elements = 0;
  std::vector<std::string> nvme_dirs;
  int threads = 1;
  kernels::cpu::ThreadPlacement thread_placement;
  bool on_gpu = false;
  [[nodiscard]] model::HeadChunk head_chunk() const { return on_gpu ? model::kGpuHeadChunk : model::kHostHeadChunk; }

  bool worst_lengths = false;  // batches are of the longest sequences that [data] allows, whatever the data are

  plan::JobFacts facts;
  plan::Budgets budgets;
  plan::Plan plan;
  plan::StepCosts costs;                        // of training
  std::optional<plan::MachineProfile> profile;  // of the machine, if it is known
  std::optional<plan::Prediction> prediction;   // of a training step, where the profile has all of its rates

  /// Of weights and activations.
  [[nodiscard]] DType dtype() const { return state->weight_dtype(); }
  /// Weights are gathered, or read, before use. Not known before the plan is.
  [[nodiscard]] bool gathers_weights() const;
  /// Whether any extent of a kind is on nvme. Likewise.
  [[nodiscard]] bool on_nvme(StateKind kind) const {
    return plan.placement.uses(static_cast<std::size_t>(kind), plan::Tier::nvme);
  }
  /// Bytes that one stage keeps for one micro-batch of a training step, for every stage; likewise of a forward pass alone.
  [[nodiscard]] std::vector<std::size_t> training_stage_bytes(bool keep_activations) const;
  [[nodiscard]] std::vector<std::size_t> inference_stage_bytes() const;
};

/// Extra sizes that `generate` knows instead of a data set.
struct GenerateLimits {
  std::int64_t batch = 16;
  std::int64_t longest_source = 0;  // tokens
};

/// The directories of the nvme tier: offload.nvme_dirs, or $SLURM_TMPDIR, or none.
[[nodiscard]] std::vector<std::string> nvme_directories(const OffloadOptions& offload);

/// Reads model and data, and plans. Every rank calls it and comes to the same plan; the failure of one is thrown by all.
/// \throws what reading throws; PlanError if the job does not fit its budgets
[[nodiscard]] std::unique_ptr<Job> prepare_job(const RunOptions& options, Purpose purpose, Runtime& runtime,
                                               const GenerateLimits& generate = {},
                                               const std::vector<std::string>& eval_paths = {});

/// The same for training on a machine that may be another one: rank 0 of those of machine.nodes(), in this process alone if
/// `communicator` is of one rank. Nothing of the nvme tier is looked at. Without data.train batches are of the longest sequences.
[[nodiscard]] std::unique_ptr<Job> plan_job(const RunOptions& options, const PlannedMachine& machine,
                                            comm::Communicator& communicator);

}  // namespace spillway::train
