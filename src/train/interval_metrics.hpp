// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "comm/communicator.hpp"
#include "offload/block_store.hpp"
#include "train/engine.hpp"
#include "train/metrics.hpp"

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
      : job_(job), engine_(engine), communicator_(communicator) {}

  void add(const CountedStep& step);
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
  offload::StoreCounters counted_;  // by the lines before
};

}  // namespace spillway::train
