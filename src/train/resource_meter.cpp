// SPDX-License-Identifier: Apache-2.0
#include "train/resource_meter.hpp"

#include "train/engine.hpp"

namespace spillway::train {

using plan::Resource;

ResourceMeter::Counts ResourceMeter::read() const {
  Counts counts;
  if (const LinkCounter* link = engine_.link()) counts.link = link->bytes();
  if (engine_.store() != nullptr) counts.store = engine_.store()->counters();
  counts.cpu_update = engine_.cpu_update_seconds();
  return counts;
}

void ResourceMeter::add(const Counts& now) {
  counted_.link.up += now.link.up - since_.link.up;
  counted_.link.down += now.link.down - since_.link.down;
  counted_.store.read_bytes += now.store.read_bytes - since_.store.read_bytes;
  counted_.store.written_bytes += now.store.written_bytes - since_.store.written_bytes;
  counted_.cpu_update += now.cpu_update - since_.cpu_update;
  since_ = now;
}

void ResourceMeter::pause() {
  if (!paused_) add(read());
  paused_ = true;
}

void ResourceMeter::resume() {
  since_ = read();
  paused_ = false;
}

offload::StoreCounters ResourceMeter::nvme() {
  if (!paused_) add(read());
  return counted_.store;
}

MeasuredResources ResourceMeter::take(const StepClock& clock, std::int64_t steps) {
  if (!paused_) add(read());
  const auto of_step = [steps](auto all) { return static_cast<double>(all) / static_cast<double>(steps); };
  MeasuredResources found;
  found.use(Resource::compute).busy_seconds = of_step(clock.seconds(Activity::compute));
  if (engine_.link() != nullptr) {
    const LinkBytes& link = counted_.link;
    found.use(Resource::pcie_up).bytes = of_step(link.up);
    found.use(Resource::pcie_down).bytes = of_step(link.down);
    found.use(Resource::pcie_both).bytes = of_step(link.up + link.down);
  }
  if (engine_.store() != nullptr) {
    const offload::StoreCounters& store = counted_.store;
    found.use(Resource::nvme_read).bytes = of_step(store.read_bytes);
    found.use(Resource::nvme_write).bytes = of_step(store.written_bytes);
    found.use(Resource::nvme_both).bytes = of_step(store.read_bytes + store.written_bytes);
  }
  if (counted_.cpu_update > 0.0) found.use(Resource::cpu_update).busy_seconds = of_step(counted_.cpu_update);
  counted_ = {};
  return found;
}

}  // namespace spillway::train
