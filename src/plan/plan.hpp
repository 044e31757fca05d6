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
inline constexpr const char* kGathered = "gathered units";
inline constexpr const char* kWeightStaging = "weights on their way from nvme";
inline constexpr const char* kGradients = "gradient buffers of units";
inline constexpr const char* kGrad = "grad";
inline constexpr const char* kGradientSums = "sums of gradients over groups";
inline constexpr const char* kFactors = "factored optimizer state";
inline constexpr const char* kStepFactors = "factors of an update";
inline constexpr const char* kRing = "ring of optimizer state";
inline constexpr const char* kReduce = "reduction pieces";
inline constexpr const char* kActivations = "residuals and scratch";
inline constexpr const char* kGeneration = "generation caches";
inline constexpr const char* kGenerationLists = "generation lists";
inline constexpr const char* kBatches = "batches";
inline constexpr const char* kWorkspace = "workspace of kernels";
inline constexpr const char* kStaging = "checkpoint staging";
inline constexpr const char* kTransfer = "state on its way to files";
inline constexpr const char* kResults = "results of kernels";
// Of a GPU alone.
inline constexpr const char* kContext = "context and libraries of the GPU";
inline constexpr const char* kKernels = "workspace of the GPU's kernels";
inline constexpr const char* kBatchCopies = "batches in host memory";
}  // namespace entry

/// Places for gathered units besides the persistent one, and for gradients of units: one in use, one on its way.
inline constexpr int kGatherSlots = 2;
inline constexpr int kGradientSlots = 2;

/// What `[offload]` asks for one kind of state; none: the planner decides.
using TierWish = std::optional<Tier>;

/// One kind of state that can be offloaded, of one rank.
struct KindFacts {
  std::string name;            // of its ledger entry
  std::size_t bytes = 0;       // in memory
  std::size_t nvme_bytes = 0;  // in files
  std::size_t ring_bytes = 0;  // of its part of the ring, if it is on nvme
  TierWish wish;
  bool spills = false;  // without a wish it goes where there is room; the others stay on the device
};

/// What a GPU takes besides; nothing of it where device memory is host memory.
struct GpuFacts {
  bool present = false;
  std::size_t context_bytes = 0;    // of CUDA and its libraries, in device memory
  std::size_t workspace_bytes = 0;  // of kernels, in device memory
  std::size_t batch_bytes = 0;      // of a micro-batch's copy in host memory
};

/// Activation checkpointing.
enum class Checkpointing { off, on, as_needed };

/// A job as sizes: all that the plan needs to know, as data. Bytes are those of one rank.
struct JobFacts {
  ProgramFacts program;                  // group_size is the largest to try
  bool training = true;                  // false: evaluation only, no gradients and no optimizer state
  std::vector<KindFacts> kinds;          // the weight first
  bool gathers_weights = false;          // wherever they are: they are shared out over ranks
  std::size_t gathered_bytes = 0;        // places for weights that are gathered, or come from nvme
  std::size_t weight_staging_bytes = 0;  // if weights are on nvme
  std::size_t gradient_bytes = 0;        // buffers of units, in fp32 and as they go to other ranks
  std::size_t grad_bytes = 0;            // at rest
  std::size_t gradient_sum_bytes = 0;    // besides, in any case
  std::size_t group_sum_bytes = 0;       // besides, with several groups of micro-batches
  std::size_t factor_bytes = 0;          // Adafactor's rows and columns
  std::size_t step_factor_bytes = 0;     // what an update makes of them
  std::size_t program_bytes = 0;         // resident before anything is allocated
  std::size_t data_bytes = 0;
  /// Of each stage of one micro-batch, if it keeps its activations, and if it runs again in the backward pass.
  std::vector<std::size_t> kept_bytes, recomputed_bytes;
  Checkpointing checkpointing = Checkpointing::as_needed;
  std::size_t scratch_bytes = 0;
  std::size_t batch_bytes = 0;       // ids, labels and losses of one micro-batch
  std::size_t evaluation_bytes = 0;  // residuals and scratch of an evaluation batch
  std::size_t generation_bytes = 0;
  std::size_t generation_list_bytes = 0;  // what the host reads and writes while it generates
  std::size_t workspace_bytes = 0;        // what kernels and BLAS keep for themselves
  std::size_t reduce_bytes = 0;           // pieces that a reduction of the largest unit receives
  std::size_t staging_bytes = 0;          // a checkpoint's staging
  std::size_t transfer_bytes = 0;         // between state and a checkpoint's staging
  std::size_t result_bytes = 0;           // that kernels leave for the host
  GpuFacts gpu;
};

/// What one rank may take. On the CPU backend device and host memory are the same, so `host` bounds their sum.
struct Budgets {
  std::optional<std::size_t> device;  // as configured; of a GPU always
  std::size_t host = 0;               // configured or free, divided by the ranks of the node
  std::size_t nvme = 0;               // 0: there is no nvme tier
  std::string device_source = "memory.device", host_source, nvme_source;  // where the numbers come from, for messages
};

/// The program of every step and the memory it takes. `train` executes and allocates this very object.
struct Plan {
  StepProgram program;
  Ledger ledger;
  std::vector<Tier> tiers;   // of JobFacts::kinds
  int first_kept_stage = 0;  // stages before it run again in the backward pass

  /// Bytes that each stage of one micro-batch keeps.
  [[nodiscard]] std::vector<std::size_t> stage_bytes(const JobFacts& job) const;
};

/// The largest group of micro-batches that fits with all activations kept, or no group and as few stages run again as memory asks; kinds that spill on the first of device, host, nvme that has room for all of them,
/// unless the job says where.
/// \throws PlanError with the ledger, the tier that is short and by how much
[[nodiscard]] Plan make_plan(const JobFacts& job, const Budgets& budgets);

}  // namespace spillway::plan
