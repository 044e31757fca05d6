// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

namespace spillway::plan {

/// Of a simulated step: when residuals that spend the time between a stage's passes in host memory are where they are wanted. They pass
/// through the places of residual_places() in the order in which `train` moves them: down as soon as they are written, up
/// for the backward pass as soon as a place is free.
class ResidualTimes {
 public:
  /// Moves bytes over the link after all that it was given before, `start` or later. \return when that is over
  using Move = std::function<double(double start, double up, double down)>;

  /// \param bytes  of each stage of one micro-batch; 0: they stay on the device; outlives this object. Empty: all do
  ResidualTimes(const std::vector<double>& bytes, int group_size, Move move);

  /// Whether the stage's forward pass writes residuals that leave.
  [[nodiscard]] bool written_by(int stage) const { return bytes_of(stage + 1) > 0.0; }
  /// When the stage may start on its next micro-batch, forward: `now`, or when a place is free.
  [[nodiscard]] double before_forward(int stage, double now);
  void after_forward(int stage, double now);
  /// Likewise backward: when its residuals are back.
  [[nodiscard]] double before_backward(int stage, double now);
  void after_backward(int stage, double now);

 private:
  [[nodiscard]] double bytes_of(int stage) const;
  void fetch(double now);

  const std::vector<double>& bytes_;
  Move move_;
  int last_stage_ = -1;  // whose residuals leave
  std::size_t places_ = 0;
  std::vector<int> written_;     // stages, in order, one for each micro-batch
  std::vector<double> saved_;    // when each of these is in host memory
  std::vector<double> fetched_;  // when each is back, the last written first
  std::size_t read_ = 0;         // of those
};

}  // namespace spillway::plan
