// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/device.hpp"
#include "plan/step_program.hpp"
#include "train/op_names.hpp"

namespace spillway::train {

/// Where something ran.
enum class TraceRow {
  main,     // the thread that runs the step program
  compute,  // the compute queue; on a GPU by its clock
  update    // the optimizer's queue
};

/// Something that took time.
struct TraceSpan {
  TraceRow row = TraceRow::main;
  std::string name;
  std::int64_t step = 0;
  std::optional<plan::Op> op;  // where it is one of the step program, or its update
  std::chrono::steady_clock::time_point begin, end;
};

/// The timeline of the steps that report.trace asks for, on this rank. Other steps cost a comparison for each op. All marks are made
/// with it: those of a step are read two steps later, when even its update is over, so that reading them waits for nothing.
class Trace {
 public:
  using Clock = std::chrono::steady_clock;

  /// \param first, last  optimizer steps from 1 as in metrics.jsonl, both included; program and names outlive the trace
  Trace(Device& device, const plan::StepProgram& program, const OpNames& names, int units, std::int64_t first,
        std::int64_t last);

  void begin_step(std::int64_t step);
  void end_step();

  /// An op of the step program: a span of the main thread and, where it gives work to the compute queue, another there.
  class OpSpan {
   public:
    /// \param trace  null: nothing is traced
    OpSpan(Trace* trace, std::size_t op, Queue& queue);
    OpSpan(const OpSpan&) = delete;
    OpSpan& operator=(const OpSpan&) = delete;
    ~OpSpan() noexcept(false);

   private:
    Trace* trace_;
    std::size_t op_;
    Queue& queue_;
    Clock::time_point begin_;
    int uncaught_;
  };

  /// Something that the main thread does inside an op.
  class PartSpan {
   public:
    /// \param name  copied when the part ends
    PartSpan(Trace* trace, const char* name);
    PartSpan(const PartSpan&) = delete;
    PartSpan& operator=(const PartSpan&) = delete;
    ~PartSpan();

   private:
    Trace* trace_;
    const char* name_;
    Clock::time_point begin_;
  };

  /// Marks of one update, set wherever it runs. A default-made one marks nothing.
  class UpdateMarks {
   public:
    UpdateMarks() = default;
    UpdateMarks(Marks* marks, std::size_t index) : marks_(marks), index_(index) {}
    void begin(Queue& queue) const {
      if (marks_ != nullptr) marks_->set(queue, index_);
    }
    void end(Queue& queue) const {
      if (marks_ != nullptr) marks_->set(queue, index_ + 1);
    }

   private:
    Marks* marks_ = nullptr;
    std::size_t index_ = 0;
  };
  /// For an update that is being handed over.
  [[nodiscard]] UpdateMarks update(int unit);

  /// Reads the marks that have not been read yet. All updates must be over.
  void finish();
  /// In no particular order; complete after finish().
  [[nodiscard]] const std::vector<TraceSpan>& spans() const noexcept { return spans_; }
  [[nodiscard]] std::int64_t first() const noexcept { return first_; }
  [[nodiscard]] std::int64_t last() const noexcept { return last_; }
  /// What a row is called.
  [[nodiscard]] const char* name_of(TraceRow row) const noexcept;

 private:
  /// The marks of one step.
  struct StepMarks {
    std::unique_ptr<Marks> marks;           // two for each op, then two for each unit's update
    std::int64_t step = 0;                  // 0: there is nothing to read
    std::vector<std::size_t> ops, updates;  // those that were marked
  };
  [[nodiscard]] StepMarks& current() { return sets_[static_cast<std::size_t>(step_ % 2)]; }
  [[nodiscard]] bool has_device_span(std::size_t op) const;
  void read(StepMarks& set);

  const plan::StepProgram& program_;
  const OpNames& names_;
  bool host_;
  std::int64_t first_, last_;
  std::array<StepMarks, 2> sets_;
  std::vector<TraceSpan> spans_;
  bool active_ = false;
  std::int64_t step_ = 0;
  Clock::time_point step_begin_;
};

}  // namespace spillway::train
