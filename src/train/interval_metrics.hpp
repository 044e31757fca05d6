// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "comm/communicator.hpp"
#include "train/engine.hpp"
#include "train/metrics.hpp"
#include "train/resource_meter.hpp"

namespace spillway::train {

/// One step as a line of metrics counts it; tokens and samples are those of all ranks.
struct CountedStep {
  double loss = 0.0;               // Σ over its target tokens; 0 of a skipped step whose loss is not finite
  std::int64_t target_tokens = 0;  // that the loss is the sum over; 0 likewise
  std::int64_t tokens = 0;         // of sources and targets
  std::int64_t samples = 0;
  double model_flops = 0.0;  // model_flops() of its samples
  bool skipped = false;      // its gradient overflowed
  double seconds = 0.0;
};

/// What the steps since the last line of metrics add up to.
class IntervalMetrics {
 public:
  /// Keeps the references.
  IntervalMetrics(const Job& job, Engine& engine, comm::Communicator& communicator)
      : job_(job), engine_(engine), communicator_(communicator), meter_(engine) {}

  /// What the engine's state is read and written for meanwhile is no step's: loading, evaluations, checkpoints. No update may be under
  /// way. The first steps need a resume() before them.
  class Pause {
   public:
    explicit Pause(IntervalMetrics& metrics) : metrics_(metrics) { metrics_.meter_.pause(); }
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;
    ~Pause() { metrics_.meter_.resume(); }

   private:
    IntervalMetrics& metrics_;
  };
  void resume() { meter_.resume(); }

  void add(const CountedStep& step);
  /// Seconds between steps, on this rank.
  void add_save(double seconds) { save_seconds_ += seconds; }
  /// The means, rates and sums of the steps added, of which there must be one, and the memory and times of this rank; begins anew,
  /// as does the engine's clock. The rest of the line - step, epoch, grad_norm, learning_rate, loss_scale - is left to the caller.
  /// Collective.
  [[nodiscard]] StepMetrics take();

 private:
  const Job& job_;
  Engine& engine_;
  comm::Communicator& communicator_;
  CountedStep sum_;
  std::int64_t steps_ = 0, skipped_ = 0;
  double save_seconds_ = 0.0;
  ResourceMeter meter_;
};

}  // namespace spillway::train
