// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/thread_placement.hpp"

#include <algorithm>
#include <climits>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <hwloc.h>
#include <pthread.h>
#include <sched.h>

#include "core/unique_handle.hpp"

namespace spillway::kernels::cpu {
namespace {

struct TopologyTraits {
  using Handle = hwloc_topology_t;
  static Handle null() noexcept { return nullptr; }
  static void destroy(Handle topology) noexcept { hwloc_topology_destroy(topology); }
};
using Topology = UniqueHandle<TopologyTraits>;

struct BitmapTraits {
  using Handle = hwloc_bitmap_t;
  static Handle null() noexcept { return nullptr; }
  static void destroy(Handle bitmap) noexcept { hwloc_bitmap_free(bitmap); }
};
using Bitmap = UniqueHandle<BitmapTraits>;

/// The allowed part of the machine; nothing if hwloc cannot tell.
Topology allowed_machine(const std::vector<int>& allowed, const char* synthetic) {
  hwloc_topology_t made = nullptr;
  if (hwloc_topology_init(&made) != 0) return {};
  Topology topology(made);
  if (synthetic != nullptr && hwloc_topology_set_synthetic(made, synthetic) != 0) return {};
  if (hwloc_topology_load(made) != 0) return {};
  const Bitmap cpus(hwloc_bitmap_alloc());
  for (const int cpu : allowed) hwloc_bitmap_set(cpus.get(), static_cast<unsigned>(cpu));
  if (hwloc_topology_restrict(made, cpus.get(), 0) != 0) return {};
  return topology;
}

std::vector<int> numbers_in(hwloc_const_cpuset_t set) {
  std::vector<int> numbers;
  for (int cpu = hwloc_bitmap_first(set); cpu >= 0; cpu = hwloc_bitmap_next(set, cpu)) numbers.push_back(cpu);
  return numbers;
}

}  // namespace

ThreadPlacement place_threads(const ThreadShare& share, const char* synthetic) {
  ThreadPlacement placement{.threads = share.threads, .cpus = {}, .text = {}};
  if (share.threads < 2) return placement;
  const int total = share.threads * share.ranks;
  if (static_cast<int>(share.allowed.size()) < total) {
    placement.text = fmt::format("{} compute threads of {} rank{} have {} CPUs: they are not bound", total, share.ranks,
                                 share.ranks == 1 ? "" : "s", share.allowed.size());
    return placement;
  }
  const Topology topology = allowed_machine(share.allowed, synthetic);
  std::vector<hwloc_cpuset_t> sets(static_cast<std::size_t>(total), nullptr);
  hwloc_obj_t root = topology ? hwloc_get_root_obj(topology.get()) : nullptr;
  if (root == nullptr || hwloc_get_nbobjs_by_type(topology.get(), HWLOC_OBJ_PU) < total ||
      hwloc_distrib(topology.get(), &root, 1, sets.data(), static_cast<unsigned>(total), INT_MAX, 0) != 0) {
    placement.text = "hwloc knows nothing about the CPUs of this process: compute threads are not bound";
    return placement;
  }
  for (int i = 0; i < total; ++i) {
    const Bitmap set(sets[static_cast<std::size_t>(i)]);
    if (i / share.threads == share.rank) placement.cpus.push_back(numbers_in(set.get()));
  }
  std::vector<std::string> threads;
  for (const auto& cpus : placement.cpus) threads.push_back(fmt::format("{}", fmt::join(cpus, "+")));
  placement.text = fmt::format("compute threads are bound to CPUs {}", fmt::join(threads, ", "));
  return placement;
}

bool bind_this_thread(const std::vector<int>& cpus) {
  const int count = cpus.empty() ? 0 : std::ranges::max(cpus) + 1;
  cpu_set_t* set = CPU_ALLOC(count);
  const std::size_t size = CPU_ALLOC_SIZE(count);
  CPU_ZERO_S(size, set);
  for (const int cpu : cpus) CPU_SET_S(static_cast<std::size_t>(cpu), size, set);
  const bool bound = pthread_setaffinity_np(pthread_self(), size, set) == 0;
  CPU_FREE(set);
  return bound;
}

}  // namespace spillway::kernels::cpu
