// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "model/t5_model.hpp"
#include "plan/step_program.hpp"
#include "train/batches.hpp"
#include "train/gradients.hpp"
#include "train/optimizer.hpp"
#include "train/parameters.hpp"
#include "train/step_clock.hpp"

namespace spillway::train {

/// What one step is given.
struct StepInput {
  /// Fills the memory of `slot` with this rank's micro-batch of that number. Called before its group's first op.
  std::function<model::MicroBatch(int micro_batch, int slot)> pack;
  model::PassOptions pass;
  double learning_rate = 0.0;
  std::int64_t optimizer_step = 1;  // Adam's t, from 1
  double max_grad_norm = 0.0;       // 0: no clipping
  std::uint64_t rounding_key = 0;   // of states that are rounded stochastically
};

/// What it gives back.
struct StepResult {
  double loss_sum = 0.0;   // Σ over this rank's target tokens
  double grad_norm = 0.0;  // of the whole gradient, before clipping
};

/// Runs the plan's step program, op by op.
class StepExecutor {
 public:
  /// \param wait_at_once  test-only: every gather and reduction is waited for where it starts
  StepExecutor(const plan::StepProgram& program, const Zero& zero, comm::Communicator& communicator, model::T5Model& t5,
               kernels::OptimizerOps& ops, Queue& queue, Parameters& parameters, Gradients& gradients,
               Optimizer& optimizer, StepClock& clock, bool wait_at_once = false);

  /// Returns while the update still runs; later use of a unit waits for it.
  /// \throws Error (exit 5) if the gradient's norm is not finite: nothing has been updated then
  StepResult run(const StepInput& input);

 private:
  void pack_group(const StepInput& input, int group);
  void acquire(int unit, std::int64_t step);
  void start_gather(int unit);
  void start_reduction(int unit);
  [[nodiscard]] double gradient_norm();
  [[nodiscard]] double sum_over_pieces(std::span<const double> mine);

  const plan::StepProgram& program_;
  Zero zero_;
  comm::Communicator& communicator_;
  model::T5Model& t5_;
  kernels::OptimizerOps& ops_;
  Queue& queue_;
  Parameters& parameters_;
  Gradients& gradients_;
  Optimizer& optimizer_;
  StepClock& clock_;
  bool wait_at_once_;
  std::vector<model::MicroBatch> batches_;  // of the group, by slot
  int packed_group_ = -1;
};

}  // namespace spillway::train
