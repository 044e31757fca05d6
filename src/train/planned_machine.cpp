// SPDX-License-Identifier: Apache-2.0
#include "train/planned_machine.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "train/job.hpp"
#include "train/machine.hpp"

namespace spillway::train {
namespace {

comm::NodeLayout filled_nodes(int ranks, int ranks_per_node) {
  std::vector<int> labels;
  for (int rank = 0; rank < ranks; ++rank) labels.push_back(rank / ranks_per_node);
  return comm::NodeLayout(labels);
}

}  // namespace

const comm::NodeLayout& ThisMachine::nodes() const { return runtime_.nodes; }
bool ThisMachine::has_gpu() const { return !runtime_.device.is_host(); }
std::string ThisMachine::device_name() const { return runtime_.device.name(); }
std::size_t ThisMachine::context_bytes() const { return has_gpu() ? kContextBytes : 0; }
std::size_t ThisMachine::device_room() const { return runtime_.device.free_bytes() + kContextBytes; }
std::size_t ThisMachine::available_host_bytes() const { return available_memory_bytes(); }
std::size_t ThisMachine::program_bytes() const { return resident_bytes(); }
std::size_t ThisMachine::library_bytes() const { return has_gpu() ? kGpuLibraryBytes : 0; }
std::size_t ThisMachine::disk_room(const std::vector<std::string>& directories) const {
  return free_disk_bytes(directories);
}

kernels::cpu::ThreadPlacement ThisMachine::threads(comm::Communicator& communicator) const {
  kernels::cpu::ThreadPlacement placement = place_compute_threads(communicator);
  const int processes = communicator.size(), ranks = nodes().ranks();
  if (ranks > processes)
    placement = {.threads = std::max(1, placement.threads * processes / ranks), .cpus = {}, .text = {}};
  return placement;
}

const plan::MachineProfile* ThisMachine::profile() const { return runtime_.profile ? &*runtime_.profile : nullptr; }

DescribedMachine::DescribedMachine(plan::MachineProfile profile, int ranks, bool gpu)
    : profile_(std::move(profile)),
      nodes_(filled_nodes(ranks, static_cast<int>(profile_.links.ranks_per_node))),
      gpu_(gpu) {}

std::size_t DescribedMachine::device_room() const { return profile_.gpu->memory_bytes - profile_.gpu->driver_bytes; }

std::size_t DescribedMachine::program_bytes() const {
  return resident_bytes() + (gpu_ ? static_cast<std::size_t>(profile_.gpu->host_bytes) : 0);
}

std::size_t DescribedMachine::disk_room(const std::vector<std::string>& /*directories*/) const {
  return profile_.nvme ? static_cast<std::size_t>(profile_.nvme->free_bytes) : 0;
}

kernels::cpu::ThreadPlacement DescribedMachine::threads(comm::Communicator& /*communicator*/) const {
  const int ranks = nodes_.ranks_on(0);
  return {.threads = std::max(1, static_cast<int>(profile_.host.cores) / ranks), .cpus = {}, .text = {}};
}

}  // namespace spillway::train
