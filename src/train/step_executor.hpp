// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "model/t5_model.hpp"
#include "plan/step_program.hpp"
#include "train/batches.hpp"
#include "train/gradients.hpp"
#include "train/op_names.hpp"
#include "train/optimizer.hpp"
#include "train/parameters.hpp"
#include "train/residual_ring.hpp"
#include "train/stall_clock.hpp"
#include "train/step_clock.hpp"
#include "train/trace.hpp"

namespace spillway::train {

/// Where a step's micro-batches come from, and their losses go.
class MicroBatchSource {
 public:
  virtual ~MicroBatchSource() = default;
  /// Fills the memory of `slot` with this rank's micro-batch of that number. Called before its group's first op.
  [[nodiscard]] virtual model::MicroBatch pack(int micro_batch, int slot) = 0;
  /// Starts to bring a slot's losses to the host. Called after the head's forward pass.
  virtual void fetch_losses(int slot) = 0;
  /// Σ over each sample of the slot's micro-batch. Called when what was fetched is there, and before the slot is filled anew.
  [[nodiscard]] virtual std::vector<double> losses(int slot) const = 0;
};

/// What one step is given.
struct StepInput {
  MicroBatchSource* batches = nullptr;
  model::PassOptions pass;
  double learning_rate = 0.0;
  std::int64_t optimizer_step = 1;   // Adam's t, from 1
  double max_grad_norm = 0.0;        // 0: no clipping
  std::uint64_t rounding_key = 0;    // of states that are rounded stochastically
  std::optional<double> loss_scale;  // in the gradients of the micro-batches; with it an overflow skips the update
};

/// Numbers that are not finite, under a loss scale.
struct Overflow {
  int unit = 0;          // where they appeared first: that of the stage, forward, or of the gradient, backward
  bool forward = false;  // a lower scale will not help
};

/// What it gives back.
struct StepResult {
  double loss_sum = 0.0;             // Σ over this rank's target tokens
  double grad_norm = 0.0;            // of the whole gradient, before clipping and without the loss scale
  std::optional<Overflow> overflow;  // nothing was updated
};

/// What watches a step.
struct StepInstruments {
  StepClock& clock;
  StallClock& stalls;
  const OpNames& names;
  Trace* trace = nullptr;
};

/// Runs the plan's step program, op by op.
class StepExecutor {
 public:
  /// \param norm_sums     norm_sum_bytes() that the device writes and the host reads
  /// \param ring          of residuals that the model keeps in host memory; null: it keeps none there
  /// \param wait_at_once  test-only: every gather and reduction is waited for where it starts
  StepExecutor(const plan::StepProgram& program, const Zero& zero, comm::Communicator& communicator, model::T5Model& t5,
               kernels::OptimizerOps& ops, Queue& queue, Parameters& parameters, Gradients& gradients,
               Optimizer& optimizer, const StepInstruments& instruments, TensorView norm_sums, ResidualRing* ring,
               bool wait_at_once = false);

  /// Of the partial sums of a gradient's norm.
  [[nodiscard]] static std::size_t norm_sum_bytes(const Zero& zero, const std::vector<plan::UnitRole>& units);

  /// Returns while the update still runs; later use of a unit waits for it.
  /// \throws Error (exit 5) if the gradient's norm is not finite without a loss scale: nothing has been updated then
  StepResult run(const StepInput& input);

 private:
  void forward(int stage, const model::MicroBatch& batch, const model::PassOptions& pass);
  void backward(int stage, const model::MicroBatch& batch, const model::PassOptions& pass);
  void run_op(const plan::Op& op, const StepInput& input, StepResult& result, UpdateNumbers& numbers);
  /// Blocks until the device is done.
  void synchronize();
  void pack_group(const StepInput& input, int group, StepResult& result);
  void collect_losses(const StepInput& input, StepResult& result);
  void acquire(int unit, std::int64_t step);
  void wait_for_update(int unit);
  double count_update(double seconds, double copies_before);
  void start_gather(int unit);
  void start_reduction(int unit);
  /// Of this rank's pieces of all trainable units, in their order: the partial sums of squares.
  [[nodiscard]] std::span<const double> norm_sums();
  /// A unit's, in their place.
  void take_norm_sums(int unit);
  /// Finds the norm, and what it means for the update.
  void judge(const StepInput& input, StepResult& result, UpdateNumbers& numbers);
  [[nodiscard]] double sum_over_pieces(std::span<const double> all) const;
  [[nodiscard]] Overflow find_overflow(std::span<const double> all, bool finite_loss);
  [[nodiscard]] int first_stage_with_overflow();

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
  StallClock& stalls_;
  const OpNames& names_;
  Trace* trace_;
  TensorView norm_sums_;
  ResidualRing* ring_;
  bool wait_at_once_;
  std::vector<model::MicroBatch> batches_;  // of the group, by slot
  int packed_group_ = -1;
};

}  // namespace spillway::train
