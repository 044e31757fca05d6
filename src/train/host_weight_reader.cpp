// SPDX-License-Identifier: Apache-2.0
#include "train/host_weight_reader.hpp"

#include <algorithm>

namespace spillway::train {

HostWeightReader::HostWeightReader(ShardState& state, Device& device)
    : state_(state),
      device_(device),
      copies_(device.create_compute_queue()),
      thread_(device.create_worker_queue("weights")) {}

bool HostWeightReader::on_thread(int unit) const {
  return std::ranges::any_of(state_.extents_of(unit), [this](std::size_t extent) { return state_.uses_ring(extent); });
}

Event HostWeightReader::read(std::initializer_list<Event> after, int unit, TensorView to) {
  Queue& queue = on_thread(unit) ? *thread_ : *copies_;
  for (const Event& event : after) queue.wait(event);
  state_.wait_until_back(queue, unit);
  device_.copy(queue, to.data(), state_.weights(unit).data(), to.bytes());
  return queue.record();
}

}  // namespace spillway::train
