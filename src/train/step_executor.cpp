// SPDX-License-Identifier: Apache-2.0
#include "train/step_executor.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

#include <fmt/format.h>

#include "comm/watchdog.hpp"
#include "core/error.hpp"
#include "core/profiler_range.hpp"
#include "train/agreement.hpp"

namespace spillway::train {

using plan::Op;
using plan::OpKind;

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

StepExecutor::StepExecutor(const plan::StepProgram& program, const Zero& zero, comm::Communicator& communicator,
                           model::T5Model& t5, kernels::OptimizerOps& ops, Queue& queue, Parameters& parameters,
                           Gradients& gradients, Optimizer& optimizer, const StepInstruments& instruments,
                           TensorView norm_sums, ResidualRing* ring, bool wait_at_once)
    : program_(program),
      zero_(zero),
      communicator_(communicator),
      t5_(t5),
      ops_(ops),
      queue_(queue),
      parameters_(parameters),
      gradients_(gradients),
      optimizer_(optimizer),
      clock_(instruments.clock),
      stalls_(instruments.stalls),
      names_(instruments.names),
      trace_(instruments.trace),
      norm_sums_(norm_sums),
      ring_(ring),
      wait_at_once_(wait_at_once),
      batches_(static_cast<std::size_t>(program.group_size)) {}

StepResult StepExecutor::run(const StepInput& input) {
  StepResult result;
  UpdateNumbers numbers{
      .learning_rate = input.learning_rate, .step = input.optimizer_step, .rounding_key = input.rounding_key};
  packed_group_ = -1;
  gradients_.begin_step();
  stalls_.begin_step();
  for (std::size_t i = 0; i < program_.ops.size(); ++i) {
    const ProfilerRange range(names_.op(i).c_str());
    communicator_.watchdog().about(names_.op(i));
    const Trace::OpSpan span(trace_, i, queue_);
    run_op(program_.ops[i], input, result, numbers);
  }
  stalls_.end_step();  // while the device updates
  return result;
}

void StepExecutor::run_op(const Op& op, const StepInput& input, StepResult& result, UpdateNumbers& numbers) {
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
      forward(op.stage, batch, input.pass);
      optimizer_.start_some();
      if (t5_.stages()[static_cast<std::size_t>(op.stage)].kind != model::StageKind::head) break;
      input.batches->fetch_losses(op.slot);
      break;
    }
    case OpKind::backward: {
      const model::MicroBatch& batch = batches_[static_cast<std::size_t>(op.slot)];
      if (batch.empty()) break;
      const StepClock::Span span(clock_, Activity::compute);
      backward(op.stage, batch, input.pass);
      break;
    }
    case OpKind::reduce: start_reduction(op.unit); break;
    case OpKind::norm: {
      judge(input, result, numbers);
      break;
    }
    case OpKind::update: {
      if (result.overflow) break;
      const double copies_before = optimizer_.snapshot_seconds();
      const auto start = std::chrono::steady_clock::now();
      optimizer_.update(op.unit, numbers);  // only the hand-over
      count_update(seconds_since(start), copies_before);
      break;
    }
  }
}

void StepExecutor::forward(int stage, const model::MicroBatch& batch, const model::PassOptions& pass) {
  if (ring_ != nullptr) ring_->before_forward(queue_, stage, batch.slot);
  t5_.forward(queue_, stage, batch, pass);
  if (ring_ != nullptr && ring_->passes(stage + 1))
    ring_->after_forward(queue_, stage, batch.slot, t5_.input_of(stage + 1, batch).bytes());
}

void StepExecutor::backward(int stage, const model::MicroBatch& batch, const model::PassOptions& pass) {
  if (ring_ != nullptr) ring_->before_backward(queue_, stage, batch.slot);
  t5_.backward(queue_, stage, batch, pass);
  if (ring_ != nullptr) ring_->after_backward(queue_, stage, batch.slot);
}

void StepExecutor::synchronize() {
  const Trace::PartSpan span(trace_, "wait for the device");
  queue_.synchronize();
}

void StepExecutor::pack_group(const StepInput& input, int group, StepResult& result) {
  if (group == packed_group_) return;
  if (packed_group_ >= 0) {
    synchronize();
    collect_losses(input, result);
  }
  packed_group_ = group;
  const StepClock::Span span(clock_, Activity::data);
  const Trace::PartSpan part(trace_, "pack micro-batches");
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
  if (!parameters_.holds(unit)) {
    const double copies_before = optimizer_.snapshot_seconds();
    const auto start = std::chrono::steady_clock::now();
    optimizer_.start_until(unit);
    count_update(seconds_since(start), copies_before);
  }
  const StepClock::Span span(clock_, Activity::collective);
  parameters_.prefetch(unit);
  if (wait_at_once_) parameters_.wait_for_gather(unit);
}

void StepExecutor::start_reduction(int unit) {
  const StepClock::Span span(clock_, Activity::collective);
  gradients_.reduce(unit);
  if (gradients_.rests_on_host(unit)) {
    take_norm_sums(unit);
    gradients_.leave(unit);
  }
  if (wait_at_once_) gradients_.wait_for_reduction(unit);
}

void StepExecutor::acquire(int unit, std::int64_t step) {
  if (!parameters_.awaited(unit)) wait_for_update(unit);
  {
    // Weights on nvme come after the update, which was waited for above.
    const StepClock::Span span(clock_, Activity::nvme);
    try {
      parameters_.wait_for_read(unit);
    } catch (const IoError& error) {
      throw IoError(fmt::format("optimizer step {}, {}", step, error.what()));
    }
  }
  std::optional<StallClock::Span> stall;
  if (parameters_.waits_for_copy(unit)) stall.emplace(stalls_, Activity::h2d);
  const StepClock::Span span(clock_, Activity::collective);
  parameters_.acquire(unit);
}

void StepExecutor::wait_for_update(int unit) {
  const double nvme_before = optimizer_.nvme_seconds(), copies_before = optimizer_.snapshot_seconds();
  const auto start = std::chrono::steady_clock::now();
  {
    const StallClock::Span stall(stalls_, Activity::cpu_update);
    optimizer_.start_until(unit);
    parameters_.wait_for_update(unit);
  }
  const double waited = seconds_since(start);
  // While this thread waited for the update, the update itself may have waited for the drive.
  const double nvme = std::min(waited, optimizer_.nvme_seconds() - nvme_before);
  clock_.add(Activity::nvme, nvme);
  stalls_.already_counted(waited, count_update(waited - nvme, copies_before));
}

/// Seconds of this thread in an update or waiting for one, in which the update may have waited for a snapshot's copies.
/// \return those that were the update's own
double StepExecutor::count_update(double seconds, double copies_before) {
  const double copies = std::min(seconds, optimizer_.snapshot_seconds() - copies_before);
  clock_.add(Activity::checkpoint, copies);
  clock_.add(Activity::cpu_update, seconds - copies);
  return seconds - copies;
}

std::size_t StepExecutor::norm_sum_bytes(const Zero& zero, const std::vector<plan::UnitRole>& units) {
  std::size_t blocks = 0;
  for (int unit = 0; unit < zero.map->units(); ++unit)
    if (units[static_cast<std::size_t>(unit)].trainable) blocks += zero.map->norm_blocks(unit).size();
  return blocks * sizeof(double);
}

std::span<const double> StepExecutor::norm_sums() {
  gradients_.finish();
  const StepClock::Span span(clock_, Activity::compute);
  for (int unit = 0; unit < zero_.map->units(); ++unit)
    if (gradients_.trainable(unit) && !gradients_.rests_on_host(unit)) take_norm_sums(unit);
  synchronize();
  const auto count = static_cast<std::int64_t>(norm_sums_.bytes() / sizeof(double));
  return TensorView(norm_sums_.data(), DType::f64, {count}).as<double>();
}

void StepExecutor::take_norm_sums(int unit) {
  std::int64_t begin = 0;
  for (int before = 0; before < unit; ++before)
    if (gradients_.trainable(before)) begin += static_cast<std::int64_t>(zero_.map->norm_blocks(before).size());
  const auto blocks = static_cast<std::int64_t>(zero_.map->norm_blocks(unit).size());
  const TensorView sums(norm_sums_.data(), DType::f64, {begin + blocks});
  ops_.sum_of_squares(queue_,
                      {.x = gradients_.piece(unit), .block = kNormBlock, .partial_sums = sums.flat(begin, blocks)});
}

void StepExecutor::judge(const StepInput& input, StepResult& result, UpdateNumbers& numbers) {
  const std::span<const double> mine = norm_sums();
  collect_losses(input, result);
  std::vector<double> all;
  {
    const StepClock::Span span(clock_, Activity::collective);
    all = comm::all_gather_doubles(communicator_, mine);
  }
  const double scale = input.loss_scale.value_or(1.0);
  result.grad_norm = std::sqrt(sum_over_pieces(all)) / scale;
  if (!std::isfinite(result.grad_norm)) {  // every rank sees the same norm
    if (!input.loss_scale)
      throw AgreedFailure(
          fmt::format("optimizer step {}: the gradient's norm is {}: training has diverged; nothing was "
                      "updated in this step",
                      input.optimizer_step, result.grad_norm),
          ExitCode::failure);
    result.overflow = find_overflow(all, std::isfinite(result.loss_sum));
    return;
  }
  // torch's clip_grad_norm_.
  const double clip = input.max_grad_norm > 0.0 ? std::min(1.0, input.max_grad_norm / (result.grad_norm + 1e-6)) : 1.0;
  numbers.gradient_scale = static_cast<float>(clip / scale);
}

/// In the order of pieces, whichever rank has which.
double StepExecutor::sum_over_pieces(std::span<const double> all) const {
  const std::size_t of_rank = norm_sums_.bytes() / sizeof(double);
  double sum = 0.0;
  for (const std::size_t rank : zero_.rank_of_piece())
    for (const double partial : all.subspan(rank * of_rank, of_rank)) sum += partial;
  return sum;
}

/// A backward pass comes to the last units first, and what is not finite stays so in all units before them. The persistent unit has a
/// part in every stage.
Overflow StepExecutor::find_overflow(std::span<const double> all, bool finite_loss) {
  const std::array<double, 1> mine = {finite_loss ? -1.0 : static_cast<double>(first_stage_with_overflow())};
  double first = -1.0;  // stage, of all ranks
  for (const double stage : comm::all_gather_doubles(communicator_, mine))
    if (stage >= 0.0 && (first < 0.0 || stage < first)) first = stage;
  if (first >= 0.0) return {.unit = t5_.stages()[static_cast<std::size_t>(first)].unit, .forward = true};

  const std::size_t of_rank = norm_sums_.bytes() / sizeof(double);
  std::size_t begin = 0;
  int found = 0;
  for (int unit = 0; unit < zero_.map->units(); ++unit) {
    if (!gradients_.trainable(unit)) continue;
    const std::size_t blocks = zero_.map->norm_blocks(unit).size();
    for (std::size_t rank = 0; rank * of_rank < all.size(); ++rank)
      for (const double sum : all.subspan(rank * of_rank + begin, blocks))
        if (!std::isfinite(sum)) found = unit;
    begin += blocks;
  }
  return {.unit = found};
}

/// Of this rank's micro-batches that are still there, those of the last group. The stage whose result is not finite: what the stages
/// read is kept. Where all of that is finite, it is the head.
int StepExecutor::first_stage_with_overflow() {
  constexpr std::int64_t kMostSums = 64;
  const std::int64_t room = std::min(kMostSums, static_cast<std::int64_t>(norm_sums_.bytes() / sizeof(double)));
  const TensorView sums(norm_sums_.data(), DType::f64, {room});
  const std::vector<model::Stage>& stages = t5_.stages();
  for (int stage = 1; stage < static_cast<int>(stages.size()); ++stage) {
    if (stages[static_cast<std::size_t>(stage)].kind == model::StageKind::decoder_embedding) continue;
    for (const model::MicroBatch& batch : batches_) {
      if (batch.empty()) continue;
      if (ring_ != nullptr && ring_->passes(stage)) ring_->bring(queue_, stage, batch.slot);
      const TensorView input = t5_.input_of(stage, batch);
      const std::int64_t block = (input.elements() + room - 1) / room;
      const std::int64_t blocks = (input.elements() + block - 1) / block;
      ops_.sum_of_squares(queue_,
                          {.x = input.flat(0, input.elements()), .block = block, .partial_sums = sums.flat(0, blocks)});
      queue_.synchronize();
      for (const double sum : sums.flat(0, blocks).as<double>())
        if (!std::isfinite(sum)) return stage - 1;
    }
  }
  return static_cast<int>(stages.size()) - 1;
}

}  // namespace spillway::train
