// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "plan/cpu_share.hpp"
#include "plan/facts.hpp"
#include "plan/job_ledger.hpp"
#include "plan/ledger.hpp"
#include "plan/placement.hpp"
#include "plan/step_program.hpp"

namespace spillway::plan {

/// Places for gathered units besides the persistent one, and for gradients of units: one in use, one on its way.
inline constexpr int kGatherSlots = 2;
inline constexpr int kGradientSlots = 2;

/// The program of every step and the memory it takes. `train` executes and allocates this very object.
struct Plan {
  StepProgram program;
  Ledger ledger;
  Placement placement;
  int first_kept_stage = 0;  // stages before it run again in the backward pass
  int host_stages = 0;       // see Shape

  [[nodiscard]] Shape shape() const {
    return {.group_size = program.group_size, .first_kept_stage = first_kept_stage, .host_stages = host_stages};
  }
  /// Bytes that each stage of one micro-batch keeps on the device.
  [[nodiscard]] std::vector<std::size_t> stage_bytes(const JobFacts& job) const;
  /// Likewise in host memory.
  [[nodiscard]] std::vector<std::size_t> host_stage_bytes(const JobFacts& job) const;
};

/// A way to run a job.
struct Candidate {
  Shape shape;
  Placement placement;
  Ledger ledger;
  std::string shortage;  // which tier is short and by how much; empty: it fits
};

/// Every shape to try: those that ask for the most memory and do the least work first, those with residuals in host memory last.
[[nodiscard]] std::vector<Shape> shapes(const JobFacts& job);
/// The job in that shape, its state as near as the budgets allow (see place_shared). If it does not fit even so, `shortage` says why.
[[nodiscard]] Candidate place(const JobFacts& job, const Budgets& budgets, const Shape& shape, const CpuShare& share);
/// The same with the usual share.
[[nodiscard]] Candidate place(const JobFacts& job, const Budgets& budgets, const Shape& shape);
/// All shapes that fit, placed with the usual share, in the order of shapes().
[[nodiscard]] std::vector<Candidate> candidates(const JobFacts& job, const Budgets& budgets);
[[nodiscard]] Plan plan_of(const JobFacts& job, Candidate candidate);

/// Of the candidates that with the fewest bytes of state and residuals outside the device, then that with the fewest on nvme, then
/// the one that runs the fewest stages again, in the largest groups. Nothing is known here of the machine's rates, so this goes by orders
/// of magnitude: a transformer block does about d_model / 2 operations for every byte of activations that running it again saves,
/// which takes a GPU a fifth to a twentieth of the time that a byte of state takes over PCIe. A byte of residuals goes there and back once
/// a step, as one of state does, and frees less, by the places that it passes through: so residuals leave only where nothing else fits.
/// \throws PlanError with the ledger, the tier that is short and by how much, and how much of one tier would do
[[nodiscard]] Plan make_plan(const JobFacts& job, const Budgets& budgets);

}  // namespace spillway::plan
