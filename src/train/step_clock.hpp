// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>

namespace spillway::train {

/// What a rank's main thread does with its time. Everything but compute and data is a stall.
enum class Activity { compute, data, collective, nvme, cpu_update, h2d, d2h, checkpoint };
inline constexpr std::size_t kActivities = 8;

/// A clock for each activity; none of them is a remainder, so that their sum can be held against the whole step.
class StepClock {
 public:
  /// Measures from its making to its end.
  class Span {
   public:
    Span(StepClock& clock, Activity activity) : clock_(clock), activity_(activity) {}
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;
    ~Span() { clock_.add(activity_, std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count()); }

   private:
    StepClock& clock_;
    Activity activity_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  };

  void add(Activity activity, double seconds) { seconds_[static_cast<std::size_t>(activity)] += seconds; }
  [[nodiscard]] double seconds(Activity activity) const { return seconds_[static_cast<std::size_t>(activity)]; }
  /// Of all activities.
  [[nodiscard]] double total() const {
    double sum = 0.0;
    for (const double seconds : seconds_) sum += seconds;
    return sum;
  }
  void reset() { seconds_.fill(0.0); }

 private:
  std::array<double, kActivities> seconds_{};
};

}  // namespace spillway::train
