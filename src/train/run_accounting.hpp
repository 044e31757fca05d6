// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "train/job.hpp"
#include "train/metrics.hpp"

namespace spillway::train {

/// Where the time and the bytes of a run's steps went, as means of a step of this rank, beside what the plan had said. The times of
/// the first line of metrics, in which kernels are loaded and chosen, count only while there is no other; bytes are those of all steps.
class RunAccounting {
 public:
  /// Keeps the job.
  explicit RunAccounting(const Job& job) : job_(job) {}

  void add(const StepMetrics& metrics);
  [[nodiscard]] bool empty() const noexcept { return lines_ == 0; }
  /// For people: a table, without a line end at its end. Not of an empty one, as json().
  [[nodiscard]] std::string text() const;
  /// A JSON object: seconds, resources, memory, each "planned" and "measured"; the keys of metrics.jsonl and plan.json.
  [[nodiscard]] std::string json() const;

 private:
  struct Memory {
    std::size_t planned = 0;
    std::optional<std::size_t> measured;
  };
  [[nodiscard]] double of_step(double all) const { return all / static_cast<double>(steps_); }
  [[nodiscard]] MeasuredUse of_step(const MeasuredUse& all) const;
  [[nodiscard]] static std::string row_of(const char* name, const Memory& memory);
  [[nodiscard]] Memory device_memory() const;
  [[nodiscard]] Memory host_memory() const;
  /// What the main thread, or a GPU's compute queue, spent most of its time on.
  [[nodiscard]] Activity most_time_in() const;

  const Job& job_;
  int lines_ = 0;
  std::int64_t all_steps_ = 0;
  std::int64_t steps_ = 0;  // of the lines whose times count
  double seconds_ = 0.0;
  StepClock clock_;
  MeasuredResources resources_;  // sums over steps: bytes of all
  std::optional<std::size_t> device_bytes_;
  std::size_t host_bytes_ = 0;
};

}  // namespace spillway::train
