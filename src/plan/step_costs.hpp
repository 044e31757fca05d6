// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "plan/job_ledger.hpp"
#include "plan/machine_profile.hpp"
#include "plan/placement.hpp"

namespace spillway::plan {

/// What some kernels do, one after the other. Operations: a multiply-add counts as two. Traffic of products and attention is in their
/// rates.
struct Work {
  double product_flops = 0.0;    // of matrix products
  double attention_flops = 0.0;  // of scores, probabilities times values, and their gradients
  double bytes = 0.0;            // read and written by what is neither
  double kernels = 0.0;
  Work& operator+=(const Work& other) noexcept {
    product_flops += other.product_flops;
    attention_flops += other.attention_flops;
    bytes += other.bytes;
    kernels += other.kernels;
    return *this;
  }
  friend bool operator==(const Work&, const Work&) = default;
};

/// A stage of one micro-batch. The head's backward pass is part of its forward pass, as in the step program.
struct StageCosts {
  Work forward;
  Work recompute;  // besides, before backward, where activations were not kept
  Work backward;
  double residual_bytes = 0.0;  // that the stage keeps if it runs again
};

/// A unit, as one rank sees it.
struct UnitCosts {
  bool persistent = false;         // has a place of its own and is held for the whole step
  std::int64_t parameters = 0;     // that the rank owns
  double gradient_bytes = 0.0;     // at rest: the norm reads it
  double update_read_bytes = 0.0;  // that the update reads besides the state: the gradient, as often as it needs it
  Work prepare;  // of the update, before any of the unit is updated and before the next forward pass is started
  Work reduce;   // zeros, rounding and summing of gradients, once a group of micro-batches
  double reduce_link_bytes = 0.0;  // that a reduction sends to other ranks
  double gather_link_bytes = 0.0;  // that a gather sends to other ranks
};

/// What products compute in.
enum class ProductType { bf16, fp16, fp32, tf32 };

/// One step of one rank as work and bytes: all that the simulation knows of the model and the job.
struct StepCosts {
  bool gpu = false;
  ProductType product = ProductType::fp32;
  std::vector<StageCosts> stages;  // in forward order, of a mean micro-batch
  std::vector<UnitCosts> units;
  bool gathers_on_acquire = false;  // ZeRO stage 3 over several ranks; otherwise units are gathered after their update
  int ranks_on_node = 1;            // that share the node's memory, cores and drives
  bool several_nodes = false;       // the network is crossed
  MomentFormat moments = MomentFormat::fp32;
  double reads_in_place = 0.0;  // how often the update's kernels read weights and masters besides, where they lie
  double model_flops = 0.0;     // products and attention of the model itself: nothing that runs again
};

/// Bytes on each tier, by the tier's number.
using TierBytes = std::array<double, 3>;

/// Of what the CPU updates of a unit beside a GPU.
struct CpuUpdateBytes {
  TierBytes state{};  // of all kinds but the gradient; they are in StateBytes::kinds too
  double gradient = 0.0;
};

/// Bytes of one rank's state: [kind][unit].
struct StateBytes {
  std::vector<std::vector<TierBytes>> kinds;
  std::vector<CpuUpdateBytes> on_cpu = {};  // of each unit; empty: nothing
  std::vector<double>
      host_residuals;  // of each stage of a mean micro-batch, in host memory between its passes; empty: none are
};

/// Where the placement has them.
[[nodiscard]] StateBytes state_bytes(const Placement& placement, const JobFacts& job);

/// Likewise with the residuals of a shape.
[[nodiscard]] StateBytes state_bytes(const Placement& placement, const Shape& shape, const JobFacts& job,
                                     const StepCosts& costs);

}  // namespace spillway::plan
