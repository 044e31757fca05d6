// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "core/cuda/handles.hpp"
#include "core/device.hpp"

namespace spillway::cuda {

/// Marks by timed events. Setting one costs the host about a microsecond and the GPU nothing that could be measured.
class CudaMarks : public Marks {
 public:
  CudaMarks(int gpu, std::size_t count);

  void set(Queue& queue, std::size_t index) override;
  void synchronize_clocks() override;
  std::chrono::steady_clock::time_point at(std::size_t index) override;
  double seconds(std::size_t from, std::size_t to) override;

 private:
  [[nodiscard]] double seconds_between(const EventHandle& from, const EventHandle& to) const;

  int gpu_;
  StreamHandle stream_;  // always idle, so that an event there happens at once
  EventHandle origin_;
  std::chrono::steady_clock::time_point origin_time_;
  std::vector<EventHandle> events_;
};

}  // namespace spillway::cuda
