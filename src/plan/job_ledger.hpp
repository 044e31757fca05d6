// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "plan/facts.hpp"
#include "plan/ledger.hpp"
#include "plan/placement.hpp"

namespace spillway::plan {

/// Names of the ledger's entries that `train` allocates, besides those of the kinds of state.
namespace entry {
inline constexpr const char* kProgram = "program and libraries";
inline constexpr const char* kData = "tokenized data";
inline constexpr const char* kGathered = "gathered units";
inline constexpr const char* kGradientsOut = "gradients on their way to the host";
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
inline constexpr const char* kSnapshot = "snapshot of a checkpoint";
inline constexpr const char* kTransfer = "state on its way to files";
inline constexpr const char* kResults = "results of kernels";
// Of a GPU alone.
inline constexpr const char* kPageTables = "page tables of pinned memory";
inline constexpr const char* kContext = "context and libraries of the GPU";
inline constexpr const char* kKernels = "workspace of the GPU's kernels";
inline constexpr const char* kLinkRing = "ring of state from host memory";
inline constexpr const char* kCpuRing = "ring of what the CPU updates";
inline constexpr const char* kBatchCopies = "batches in host memory";
inline constexpr const char* kHostResiduals = "residuals in host memory";
inline constexpr const char* kResidualRing = "ring of residuals";
}  // namespace entry

/// How a step is cut: the more of both, the faster and the larger.
struct Shape {
  int group_size = 1;        // micro-batches that run a stage before the next stage runs
  int first_kept_stage = 0;  // stages before it run again in the backward pass
  int host_stages = 0;       // of those the first so many have what they keep in host memory meanwhile
  friend bool operator==(const Shape&, const Shape&) = default;
};

/// Places on the device for residuals on their way to host memory and back, besides one for each micro-batch of a group: the stage that
/// runs reads one and writes one, and one is on its way.
inline constexpr int kResidualPlacesBesides = 2;

/// How many places for residuals there are, each for the largest of one stage and micro-batch. \param stages  with residuals in host memory
[[nodiscard]] int residual_places(int group_size, int stages);

/// How many stages keep less if they run again than if they do not, of those before a stage.
[[nodiscard]] int stages_again(const JobFacts& job, int first_kept_stage);

/// Bytes that each stage of one micro-batch keeps on the device.
[[nodiscard]] std::vector<std::size_t> stage_bytes(const JobFacts& job, const Shape& shape);
/// Likewise in host memory.
[[nodiscard]] std::vector<std::size_t> host_stage_bytes(const JobFacts& job, const Shape& shape);

/// Every byte of a job of that shape whose state lies there.
[[nodiscard]] Ledger make_ledger(const JobFacts& job, const Shape& shape, const Placement& placement);

}  // namespace spillway::plan
