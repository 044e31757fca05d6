// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "plan/ledger.hpp"
#include "plan/step_program.hpp"

namespace spillway::plan {

/// Names of the ledger's entries that `train` allocates.
namespace entry {
inline constexpr const char* kProgram = "program and libraries";
inline constexpr const char* kData = "tokenized data";
inline constexpr const char* kWeights = "weight (= master)";
inline constexpr const char* kGathered = "gathered units";
inline constexpr const char* kGradients = "gradient buffers of units";
inline constexpr const char* kGradientShards = "grad";
inline constexpr const char* kExpAvg = "exp_avg";
inline constexpr const char* kExpAvgSq = "exp_avg_sq";
inline constexpr const char* kRing = "ring of optimizer state";
inline constexpr const char* kReduce = "reduction pieces";
inline constexpr const char* kActivations = "residuals and scratch";
inline constexpr const char* kGeneration = "generation caches";
inline constexpr const char* kBatches = "batches";
inline constexpr const char* kWorkspace = "workspace of kernels";
inline constexpr const char* kStaging = "checkpoint staging";
}  // namespace entry

/// Places for gathered units besides the persistent one, and for gradients of units: one in use, one on its way.
inline constexpr int kGatherSlots = 2;
inline constexpr int kGradientSlots = 2;

/// One unit of the model in elements (fp32).
struct UnitFacts {
  std::int64_t elements = 0;  // gathered, padded
  std::int64_t owned = 0;     // what one rank stores and updates: a shard, or all of it (stage 0)
};

/// What `[offload]` asks for one kind of state; none: the planner decides.
using TierWish = std::optional<Tier>;

/// A job as sizes: all that the plan needs to know, as data.
struct JobFacts {
  ProgramFacts program;          // group_size is the largest to try
  bool sharded_weights = false;  // ZeRO stage 3 over more than one rank
  bool training = true;          // false: evaluation only, no gradients and no optimizer state
  std::vector<UnitFacts> units;
  std::size_t program_bytes = 0;  // resident before anything is allocated
  std::size_t data_bytes = 0;
  std::size_t residual_bytes = 0;  // all stages of one micro-batch
  std::size_t scratch_bytes = 0;
  std::size_t batch_bytes = 0;       // ids, labels and losses of one micro-batch
  std::size_t evaluation_bytes = 0;  // residuals and scratch of an evaluation batch
  std::size_t generation_bytes = 0;
  std::size_t workspace_bytes = 0;      // what kernels and BLAS keep for themselves
  std::size_t reduce_bytes = 0;         // pieces that a reduction of the largest unit receives
  std::size_t staging_bytes = 0;        // a checkpoint's staging
  std::size_t ring_bytes_per_kind = 0;  // of the ring, if that kind is on nvme
  TierWish exp_avg, exp_avg_sq;
};

/// What one rank may take. On the CPU backend device and host memory are the same, so `host` bounds their sum.
struct Budgets {
  std::optional<std::size_t> device;     // as configured
  std::size_t host = 0;                  // configured or free, divided by the ranks of the node
  std::size_t nvme = 0;                  // 0: there is no nvme tier
  std::string host_source, nvme_source;  // where the numbers come from, for messages
};

/// The program of every step and the memory it takes. `train` executes and allocates this very object.
struct Plan {
  StepProgram program;
  Ledger ledger;
  Tier exp_avg = Tier::device;
  Tier exp_avg_sq = Tier::device;
};

/// The largest group of micro-batches that fits, moments on the first of device, host, nvme that has room unless the job says where.
/// \throws PlanError with the ledger, the tier that is short and by how much
[[nodiscard]] Plan make_plan(const JobFacts& job, const Budgets& budgets);

}  // namespace spillway::plan
