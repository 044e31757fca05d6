// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "train/run_options.hpp"

namespace spillway::train {

/// What the loss of fp16 training is multiplied by before the backward pass, so that small gradients are not lost.
/// Follows DeepSpeed's DynamicLossScaler (runtime/fp16/loss_scaler.py):
/// - an overflow uses up one of `hysteresis`; the last of it stays, and then each overflow halves the scale, down to `min`;
/// - every `window` steps without an overflow, counted from the step after the last one (from the first step, if there was
///   none), double the scale and restore the hysteresis;
/// - with `consecutive_hysteresis` every step without an overflow restores the hysteresis.
/// A fixed scale never changes. Pure: the same calls give the same scales on every rank.
class LossScaler {
 public:
  /// What a checkpoint keeps.
  struct State {
    double scale = 1.0;
    std::int64_t step = 0;            // calls of update() so far
    std::int64_t last_overflow = -1;  // the step of the last overflow; -1: none
    std::int64_t hysteresis = 1;      // what is left of it
    bool operator==(const State&) const = default;
  };

  explicit LossScaler(const LossScaleOptions& options, bool consecutive_hysteresis = false);

  [[nodiscard]] double scale() const noexcept { return state_.scale; }
  /// After a step. \param overflow  its gradient was not finite, and nothing was updated
  void update(bool overflow);
  /// Whether another overflow would find no lower scale to go to: training has diverged. Never with a fixed scale.
  [[nodiscard]] bool exhausted() const noexcept;

  [[nodiscard]] const State& state() const noexcept { return state_; }
  /// Goes on from where another scaler was. A fixed scale stays what it is; of a hysteresis, no more than these options allow is left.
  void restore(const State& state);

 private:
  LossScaleOptions options_;
  bool consecutive_hysteresis_;
  State state_;
};

}  // namespace spillway::train
