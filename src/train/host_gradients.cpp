// SPDX-License-Identifier: Apache-2.0
#include "train/host_gradients.hpp"

#include <utility>

#include <fmt/format.h>

#include "core/error.hpp"
#include "plan/plan.hpp"

namespace spillway::train {

HostGradients::HostGradients(Device& device, TensorView slots, std::vector<TensorView> places, bool wait_at_once)
    : device_(device),
      slots_(std::move(slots)),
      places_(std::move(places)),
      wait_at_once_(wait_at_once),
      down_(device.create_compute_queue()),
      free_(plan::kGradientSlots),
      there_(places_.size()) {
  for (std::size_t unit = 0; unit < places_.size(); ++unit)
    if (places_[unit] && places_[unit].bytes() > slots_.bytes() / free_.size())
      throw Error(fmt::format("slots for gradients: expected {} of {} bytes or more, found {} bytes", free_.size(),
                              places_[unit].bytes(), slots_.bytes()));
}

HostGradients::~HostGradients() {
  for (const Event& there : there_) there.wait_quietly();
}

TensorView HostGradients::open(Queue& queue, int unit) {
  if (open_ >= 0) throw Error(fmt::format("the gradient of unit {} is begun before that of unit {} left", unit, open_));
  open_ = unit;
  queue.wait(free_[next_]);
  const TensorView& place = at_rest(unit);
  return {slots_.data() + next_ * (slots_.bytes() / free_.size()), place.dtype(), place.shape()};
}

void HostGradients::leave(Queue& queue, int unit) {
  if (std::exchange(open_, -1) != unit)
    throw Error(fmt::format("the gradient of unit {} leaves but was not begun", unit));
  const TensorView& place = at_rest(unit);
  down_->wait(queue.record());
  device_.copy(*down_, place.data(), slots_.data() + next_ * (slots_.bytes() / free_.size()), place.bytes());
  const Event there = down_->record();
  free_[next_] = there_[static_cast<std::size_t>(unit)] = there;
  next_ = (next_ + 1) % free_.size();
  if (wait_at_once_) there.wait();
}

}  // namespace spillway::train
