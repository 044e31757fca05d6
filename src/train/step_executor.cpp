// SPDX-License-Identifier: Apache-2.0
#include "train/step_executor.hpp"

#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "core/error.hpp"
#include "train/agreement.hpp"

namespace spillway::train {

using plan::Op;
using plan::OpKind;

StepExecutor::StepExecutor(const plan::StepProgram& program, const Zero& zero, comm::Communicator& communicator,
                           model::T5Model& t5, kernels::OptimizerOps& ops, Queue& queue, Parameters& parameters,
                           Gradients& gradients, Optimizer& optimizer, StepClock& clock, TensorView norm_sums,
                           bool wait_at_once)
    : program_(program),
      zero_(zero),
      communicator_(communicator),
      t5_(t5),
      ops_(ops),
      queue_(queue),
      parameters_(parameters),
      gradients_(gradients),
      optimizer_(optimizer),
      clock_(clock),
      norm_sums_(norm_sums),
      wait_at_once_(wait_at_once),
      batches_(static_cast<std::size_t>(program.group_size)) {}

StepResult StepExecutor::run(const StepInput& input) {
  StepResult result;
  UpdateNumbers numbers{
      .learning_rate = input.learning_rate, .step = input.optimizer_step, .rounding_key = input.rounding_key};
  packed_group_ = -1;
  gradients_.begin_step();
  for (const Op& op : program_.ops) {
    switch (op.kind) {
      case OpKind::prefetch: start_gather(op.unit); break;
      case OpKind::acquire: acquire(op.unit, input.optimizer_step); break;
      case OpKind::release: parameters_.release(op.unit); break;
      case OpKind::begin_gradient: gradients_.begin(op.unit); break;
      case OpKind::forward: {
        pack_group(input, op.group, result);
        const model::MicroBatch& batch = batches_[static_cast<std::size_t>(op.slot)];
        if (batch.empty()) break;
        const StepClock::Span span(clock_, Activity::compute);
        t5_.forward(queue_, op.stage, batch, input.pass);
        if (t5_.stages()[static_cast<std::size_t>(op.stage)].kind != model::StageKind::head) break;
        input.batches->fetch_losses(op.slot);
        break;
      }
      case OpKind::backward: {
        const model::MicroBatch& batch = batches_[static_cast<std::size_t>(op.slot)];
        if (batch.empty()) break;
        const StepClock::Span span(clock_, Activity::compute);
        t5_.backward(queue_, op.stage, batch, input.pass);
        break;
      }
      case OpKind::reduce: start_reduction(op.unit); break;
      case OpKind::norm: {
        result.grad_norm = gradient_norm();
        collect_losses(input, result);
        if (!std::isfinite(result.grad_norm))
          throw AgreedFailure(  // every rank sees the same norm
              fmt::format("optimizer step {}: the gradient's norm is {}: training has diverged; nothing was updated in "
                          "this step",
                          input.optimizer_step, result.grad_norm),
              ExitCode::failure);
        // torch's clip_grad_norm_.
        if (input.max_grad_norm > 0.0)
          numbers.gradient_scale = static_cast<float>(std::min(1.0, input.max_grad_norm / (result.grad_norm + 1e-6)));
        break;
      }
      case OpKind::update: {
        const StepClock::Span span(clock_,
                                   Activity::cpu_update);  // only the hand-over, unless the update is waited for
        optimizer_.update(op.unit, numbers);
        break;
      }
    }
  }
  return result;
}

void StepExecutor::pack_group(const StepInput& input, int group, StepResult& result) {
  if (group == packed_group_) return;
  if (packed_group_ >= 0) {
    queue_.synchronize();
    collect_losses(input, result);
  }
  packed_group_ = group;
  const StepClock::Span span(clock_, Activity::data);
  for (int slot = 0; slot < program_.group_size; ++slot) {
    model::MicroBatch& batch = batches_[static_cast<std::size_t>(slot)];
    batch = input.batches->pack(group * program_.group_size + slot, slot);
    batch.slot = slot;
  }
}

/// Of the group that has run.
void StepExecutor::collect_losses(const StepInput& input, StepResult& result) {
  for (const model::MicroBatch& batch : batches_) {
    if (batch.empty()) continue;
    for (const double loss : input.batches->losses(batch.slot)) result.loss_sum += loss;
  }
}

void StepExecutor::start_gather(int unit) {
  const StepClock::Span span(clock_, Activity::collective);
  parameters_.prefetch(unit);
  if (wait_at_once_) parameters_.wait_for_gather(unit);
}

void StepExecutor::start_reduction(int unit) {
  const StepClock::Span span(clock_, Activity::collective);
  gradients_.reduce(unit);
  if (wait_at_once_) gradients_.wait_for_reduction(unit);
}

void StepExecutor::acquire(int unit, std::int64_t step) {
  const double nvme_before = optimizer_.nvme_seconds();
  {
    const auto start = std::chrono::steady_clock::now();
    queue_.wait(parameters_.updated(unit));
    const double waited = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    // While this thread waited for the update, the update itself may have waited for the drive.
    const double nvme = std::min(waited, optimizer_.nvme_seconds() - nvme_before);
    clock_.add(Activity::nvme, nvme);
    clock_.add(Activity::cpu_update, waited - nvme);
  }
  {
    // Weights on nvme come after the update, which was waited for above.
    const StepClock::Span span(clock_, Activity::nvme);
    try {
      parameters_.wait_for_read(unit);
    } catch (const IoError& error) {
      throw IoError(fmt::format("optimizer step {}, {}", step, error.what()));
    }
  }
  const StepClock::Span span(clock_, Activity::collective);
  parameters_.acquire(unit);
}

std::size_t StepExecutor::norm_sum_bytes(const Zero& zero, const std::vector<plan::UnitRole>& units) {
  std::size_t blocks = 0;
  for (int unit = 0; unit < zero.map->units(); ++unit)
    if (units[static_cast<std::size_t>(unit)].trainable) blocks += zero.map->norm_blocks(unit).size();
  return blocks * sizeof(double);
}

double StepExecutor::gradient_norm() {
  gradients_.finish();
  const auto count = static_cast<std::int64_t>(norm_sums_.bytes() / sizeof(double));
  const TensorView sums(norm_sums_.data(), DType::f64, {count});
  {
    const StepClock::Span span(clock_, Activity::compute);
    std::int64_t begin = 0;
    for (int unit = 0; unit < zero_.map->units(); ++unit) {
      if (!gradients_.trainable(unit)) continue;
      const auto blocks = static_cast<std::int64_t>(zero_.map->norm_blocks(unit).size());
      ops_.sum_of_squares(queue_,
                          {.x = gradients_.piece(unit), .block = kNormBlock, .partial_sums = sums.flat(begin, blocks)});
      begin += blocks;
    }
    queue_.synchronize();
  }
  const StepClock::Span span(clock_, Activity::collective);
  return std::sqrt(sum_over_pieces(sums.as<double>()));
}

/// In the order of pieces, whichever rank has which.
double StepExecutor::sum_over_pieces(std::span<const double> mine) {
  const std::vector<double> all = comm::all_gather_doubles(communicator_, mine);
  double sum = 0.0;
  for (const std::size_t rank : zero_.rank_of_piece())
    for (const double partial : std::span(all).subspan(rank * mine.size(), mine.size())) sum += partial;
  return sum;
}

}  // namespace spillway::train
