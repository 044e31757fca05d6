// SPDX-License-Identifier: Apache-2.0
#include "train/trace.hpp"

#include <algorithm>
#include <exception>

#include <fmt/format.h>

namespace spillway::train {

using plan::OpKind;

Trace::Trace(Device& device, const plan::StepProgram& program, const OpNames& names, int units, std::int64_t first,
             std::int64_t last)
    : program_(program), names_(names), host_(device.is_host()), first_(first), last_(last) {
  const std::size_t ops = program.ops.size();
  for (StepMarks& set : sets_) {
    set.marks = device.create_marks(2 * (ops + static_cast<std::size_t>(units)));
    set.ops.reserve(ops);
    set.updates.reserve(static_cast<std::size_t>(units));
  }
  // For the usual few steps; a longer trace grows.
  constexpr std::int64_t kSteps = 8;
  spans_.reserve(static_cast<std::size_t>(std::clamp<std::int64_t>(last - first + 1, 1, kSteps)) * 3 * ops);
}

void Trace::begin_step(std::int64_t step) {
  active_ = step >= first_ && step <= last_;
  if (!active_) return;
  step_ = step;
  StepMarks& set = current();
  read(set);
  set.step = step;
  set.marks->synchronize_clocks();
  step_begin_ = Clock::now();
}

void Trace::end_step() {
  if (!active_) return;
  spans_.push_back({.row = TraceRow::main,
                    .name = fmt::format("step {}", step_),
                    .step = step_,
                    .op = {},
                    .begin = step_begin_,
                    .end = Clock::now()});
  active_ = false;
}

/// Of the other ops the device sees nothing, or what their update does in a queue of its own.
bool Trace::has_device_span(std::size_t op) const {
  switch (program_.ops[op].kind) {
    case OpKind::prefetch:
    case OpKind::release:
    case OpKind::update: return false;
    case OpKind::acquire:
    case OpKind::begin_gradient:
    case OpKind::forward:
    case OpKind::backward:
    case OpKind::reduce:
    case OpKind::norm: return true;
  }
  return false;
}

Trace::OpSpan::OpSpan(Trace* trace, std::size_t op, Queue& queue)
    : trace_(trace != nullptr && trace->active_ ? trace : nullptr),
      op_(op),
      queue_(queue),
      uncaught_(std::uncaught_exceptions()) {
  if (trace_ == nullptr) return;
  begin_ = Clock::now();
  if (trace_->has_device_span(op_)) trace_->current().marks->set(queue_, 2 * op_);
}

Trace::OpSpan::~OpSpan() noexcept(false) {
  if (trace_ == nullptr || std::uncaught_exceptions() > uncaught_) return;  // a step that fails leaves no trace
  if (trace_->has_device_span(op_)) {
    trace_->current().marks->set(queue_, 2 * op_ + 1);
    trace_->current().ops.push_back(op_);
  }
  trace_->spans_.push_back({.row = TraceRow::main,
                            .name = trace_->names_.op(op_),
                            .step = trace_->step_,
                            .op = trace_->program_.ops[op_],
                            .begin = begin_,
                            .end = Clock::now()});
}

Trace::PartSpan::PartSpan(Trace* trace, const char* name)
    : trace_(trace != nullptr && trace->active_ ? trace : nullptr), name_(name) {
  if (trace_ != nullptr) begin_ = Clock::now();
}

Trace::PartSpan::~PartSpan() {
  if (trace_ != nullptr)
    trace_->spans_.push_back(
        {.row = TraceRow::main, .name = name_, .step = trace_->step_, .op = {}, .begin = begin_, .end = Clock::now()});
}

Trace::UpdateMarks Trace::update(int unit) {
  if (!active_) return {};
  const auto index = static_cast<std::size_t>(unit);
  current().updates.push_back(index);
  return {current().marks.get(), 2 * (program_.ops.size() + index)};
}

void Trace::read(StepMarks& set) {
  if (set.step == 0) return;
  const auto add = [&](TraceRow row, const std::string& name, const plan::Op& op, std::size_t mark) {
    spans_.push_back({.row = row,
                      .name = name,
                      .step = set.step,
                      .op = op,
                      .begin = set.marks->at(mark),
                      .end = set.marks->at(mark + 1)});
  };
  for (const std::size_t op : set.ops) add(TraceRow::compute, names_.op(op), program_.ops[op], 2 * op);
  for (const std::size_t unit : set.updates)
    add(TraceRow::update, names_.update(static_cast<int>(unit)),
        {.kind = OpKind::update, .unit = static_cast<int>(unit)}, 2 * (program_.ops.size() + unit));
  set.step = 0;
  set.ops.clear();
  set.updates.clear();
}

void Trace::finish() {
  for (StepMarks& set : sets_) read(set);
}

const char* Trace::name_of(TraceRow row) const noexcept {
  switch (row) {
    case TraceRow::main: return "main";
    case TraceRow::compute: return host_ ? "compute" : "GPU compute";
    case TraceRow::update: return host_ ? "update" : "GPU update";
  }
  return "main";
}

}  // namespace spillway::train
