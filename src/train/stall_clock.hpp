// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <exception>
#include <memory>
#include <vector>

#include "core/device.hpp"
#include "train/step_clock.hpp"

namespace spillway::train {

/// How long a GPU's compute queue waited or copied instead of computing, by marks before and after. The host sees none of that: it is
/// ahead, and waits for everything together at the end, which its clock counts as compute. On the host nothing is measured, since
/// there the main thread itself waits.
class StallClock {
 public:
  /// \param queue  the compute queue; \param most  spans in one step; \param clock  corrected at the end of each step
  StallClock(Device& device, Queue& queue, std::size_t most, StepClock& clock);

  /// Marks the queue at its making and at its end. Outside steps it does nothing.
  class Span {
   public:
    Span(StallClock& stalls, Activity activity) : stalls_(stalls), uncaught_(std::uncaught_exceptions()) {
      stalls_.begin(activity);
    }
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;
    ~Span() noexcept(false) {
      if (std::uncaught_exceptions() == uncaught_) stalls_.end();  // a step that fails needs no clock
    }

   private:
    StallClock& stalls_;
    int uncaught_;
  };

  void begin_step();
  /// So many seconds of the last span have been counted already: the host waited too. What the queue still computed of those that were
  /// counted as the span's activity is given back.
  void already_counted(double seconds, double as_activity = 0.0);
  /// Moves what was measured from compute to its own activity. Call it when the host has waited for the last span.
  void end_step();

 private:
  struct Measured {
    Activity activity;
    double counted = 0.0;
    double as_activity = 0.0;  // of it
  };
  void begin(Activity activity);
  void end();

  Queue& queue_;
  StepClock& clock_;
  std::size_t most_;
  std::unique_ptr<Marks> marks_;  // two for each span; null on the host
  std::vector<Measured> spans_;   // of this step
  bool in_step_ = false;
  bool open_ = false;
};

}  // namespace spillway::train
