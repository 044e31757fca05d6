// SPDX-License-Identifier: Apache-2.0
#include "train/loss_scaler.hpp"

#include <algorithm>
#include <cmath>

namespace spillway::train {
namespace {

constexpr double kFactor = 2.0;

}  // namespace

LossScaler::LossScaler(const LossScaleOptions& options, bool consecutive_hysteresis)
    : options_(options), consecutive_hysteresis_(consecutive_hysteresis) {
  state_.scale = options.fixed > 0.0 ? options.fixed : std::ldexp(1.0, static_cast<int>(options.initial_scale_power));
  state_.hysteresis = options.hysteresis;
}

void LossScaler::update(bool overflow) {
  const std::int64_t step = state_.step++;
  if (options_.fixed > 0.0) return;
  if (overflow) {
    if (state_.hysteresis > 1) --state_.hysteresis;
    else state_.scale = std::max(state_.scale / kFactor, options_.min);
    state_.last_overflow = step;
    return;
  }
  if (consecutive_hysteresis_) state_.hysteresis = options_.hysteresis;
  const std::int64_t stable = step - state_.last_overflow - 1;
  if (stable <= 0 || stable % options_.window != 0) return;
  state_.hysteresis = options_.hysteresis;
  state_.scale *= kFactor;
}

bool LossScaler::exhausted() const noexcept {
  return options_.fixed <= 0.0 && state_.hysteresis <= 1 && state_.scale <= options_.min;
}

void LossScaler::restore(const State& state) {
  const double fixed = state_.scale;
  state_ = state;
  state_.hysteresis = std::clamp<std::int64_t>(state.hysteresis, 1, options_.hysteresis);
  if (options_.fixed > 0.0) state_.scale = fixed;
}

}  // namespace spillway::train
