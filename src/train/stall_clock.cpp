// SPDX-License-Identifier: Apache-2.0
#include "train/stall_clock.hpp"

#include <algorithm>

namespace spillway::train {

StallClock::StallClock(Device& device, Queue& queue, std::size_t most, StepClock& clock)
    : queue_(queue), clock_(clock), most_(most) {
  if (device.is_host() || most == 0) return;
  marks_ = device.create_marks(2 * most);
  spans_.reserve(most);
}

void StallClock::begin_step() {
  spans_.clear();
  in_step_ = marks_ != nullptr;
}

void StallClock::begin(Activity activity) {
  open_ = in_step_ && spans_.size() < most_;
  if (!open_) return;
  marks_->set(queue_, 2 * spans_.size());
  spans_.push_back({activity});
}

void StallClock::end() {
  if (open_) marks_->set(queue_, 2 * spans_.size() - 1);
}

void StallClock::already_counted(double seconds, double as_activity) {
  if (!open_) return;
  spans_.back().counted = seconds;
  spans_.back().as_activity = as_activity;
}

void StallClock::end_step() {
  in_step_ = false;
  open_ = false;
  for (std::size_t i = 0; i < spans_.size(); ++i) {
    const double found = marks_->seconds(2 * i, 2 * i + 1) - spans_[i].counted;
    const double seconds = std::clamp(found, -spans_[i].as_activity, std::max(0.0, clock_.seconds(Activity::compute)));
    clock_.add(spans_[i].activity, seconds);
    clock_.add(Activity::compute, -seconds);
  }
}

}  // namespace spillway::train
