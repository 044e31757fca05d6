// SPDX-License-Identifier: Apache-2.0
#include "train/resource_meter.hpp"

#include <algorithm>

#include "train/engine.hpp"

namespace spillway::train {

using plan::Resource;

ResourceMeter::Counts ResourceMeter::read() const {
  Counts counts;
  if (const LinkCounter* link = engine_.link()) counts.link = link->bytes();
  if (engine_.store() != nullptr) counts.store = engine_.store()->counters();
  if (const StateSnapshot* const snapshot = engine_.snapshot()) {
    counts.link.down -= std::min(counts.link.down, snapshot->link_bytes());
    counts.store.read_bytes -= std::min(counts.store.read_bytes, snapshot->file_bytes());
  }
  counts.cpu_update = engine_.cpu_update_seconds();
  return counts;
}

void ResourceMeter::add(const Counts& now) {
  // A snapshot counts a copy a little later than the others do: what was counted too much is made up for before anything more is.
  const auto count = [](auto& counted, auto& since, auto now_there) {
    if (now_there < since) return;
    counted += now_there - since;
    since = now_there;
  };
  count(counted_.link.up, since_.link.up, now.link.up);
  count(counted_.link.down, since_.link.down, now.link.down);
  count(counted_.store.read_bytes, since_.store.read_bytes, now.store.read_bytes);
  count(counted_.store.written_bytes, since_.store.written_bytes, now.store.written_bytes);
  count(counted_.cpu_update, since_.cpu_update, now.cpu_update);
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
