// SPDX-License-Identifier: Apache-2.0
#include "train/machine.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <span>
#include <sstream>
#include <string_view>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/error.hpp"
#include "core/host_name.hpp"

namespace spillway::train {
namespace {

// Of a rank: above any machine's, below what exhausts memory with stacks.
constexpr int kMostThreads = 1024;

/// The number after `key` in a file of "Key:   number kB" lines.
std::size_t kilobyte_line(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key))
      return static_cast<std::size_t>(std::strtoull(line.c_str() + key.size(), nullptr, 10)) * 1024;
  throw Error(fmt::format("{}: no line {}", path, key));
}

std::optional<std::size_t> number_in(const std::string& path) {
  std::ifstream file(path);
  std::size_t value = 0;
  if (!(file >> value)) return std::nullopt;  // not there, or "max"
  return value;
}

/// The number after `key` and a blank; 0 if there is none.
std::size_t entry_of(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string name;
  for (std::size_t value = 0; file >> name >> value;)
    if (name == key) return value;
  return 0;
}

/// What the two versions of control groups call the same numbers.
struct GroupFiles {
  const char* limit;
  const char* used;
  const char* idle_cache;  // in memory.stat
};
constexpr GroupFiles kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr GroupFiles kVersion2 = {"memory.max", "memory.current", "inactive_file"};

std::optional<std::size_t> group_room(const std::string& mount, std::string group, const GroupFiles& files) {
  std::optional<std::size_t> room;
  while (!group.empty()) {
    const std::string folder = mount + (group == "/" ? "" : group) + "/";
    const auto limit = number_in(folder + files.limit);
    const auto current = number_in(folder + files.used);
    if (limit && current) {
      const std::size_t used = *current - std::min(*current, entry_of(folder + "memory.stat", files.idle_cache));
      room = std::min(room.value_or(*limit), *limit > used ? *limit - used : 0);
    }
    group = group == "/" ? std::string() : group.substr(0, std::max<std::size_t>(group.rfind('/'), 1));
  }
  return room;
}

/// The CPUs that this process may use, by the system's numbers; empty if it does not say.
std::vector<int> allowed_cpus() {
  constexpr int kMostCpus = 1 << 20;
  std::vector<int> cpus;
  for (int most = CPU_SETSIZE; most <= kMostCpus; most *= 2) {
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(most),
                                                               [](cpu_set_t* used) { CPU_FREE(used); });
    const std::size_t bytes = CPU_ALLOC_SIZE(most);
    if (set == nullptr) return {};
    if (sched_getaffinity(0, bytes, set.get()) != 0) {
      if (errno == EINVAL) continue;  // the machine has more CPUs than the set has room for
      return {};
    }
    for (int cpu = 0; cpu < most; ++cpu)
      if (CPU_ISSET_S(static_cast<std::size_t>(cpu), bytes, set.get())) cpus.push_back(cpu);
    return cpus;
  }
  return cpus;
}

}  // namespace

std::size_t resident_bytes() { return kilobyte_line("/proc/self/status", "VmRSS:"); }
std::size_t peak_resident_bytes() { return kilobyte_line("/proc/self/status", "VmHWM:"); }

std::optional<std::size_t> control_group_room(const std::string& mount, const std::string& groups) {
  std::optional<std::size_t> room;
  std::istringstream lines(groups);
  for (std::string line; std::getline(lines, line);) {  // NUMBER:CONTROLLERS:GROUP
    const std::size_t controllers = line.find(':') + 1, group = line.find(':', controllers) + 1;
    if (controllers == 0 || group == 0) continue;
    const std::string names = "," + line.substr(controllers, group - 1 - controllers) + ",";
    std::optional<std::size_t> found;
    if (line.starts_with("0::")) found = group_room(mount, line.substr(group), kVersion2);
    else if (names.find(",memory,") != std::string::npos)
      found = group_room(mount + "/memory", line.substr(group), kVersion1);
    if (found) room = std::min(room.value_or(*found), *found);
  }
  return room;
}

std::size_t available_memory_bytes() {
  const std::size_t available = kilobyte_line("/proc/meminfo", "MemAvailable:");
  std::ostringstream groups;
  groups << std::ifstream("/proc/self/cgroup").rdbuf();
  return std::min(available, control_group_room("/sys/fs/cgroup", groups.str()).value_or(available));
}

std::size_t free_disk_bytes(const std::vector<std::string>& directories) {
  struct Disk {
    std::size_t free = 0, directories = 0;
  };
  std::map<dev_t, Disk> disks;
  for (const std::string& directory : directories) {
    struct stat status {};
    struct statvfs space {};
    if (stat(directory.c_str(), &status) != 0 || statvfs(directory.c_str(), &space) != 0)
      throw ConfigError(fmt::format("offload.nvme_dirs: {}: {}", directory, std::strerror(errno)));
    Disk& disk = disks[status.st_dev];
    disk.free = static_cast<std::size_t>(space.f_bavail) * space.f_frsize;
    ++disk.directories;
  }
  std::optional<std::size_t> smallest;
  for (const auto& [device, disk] : disks)
    smallest = std::min(smallest.value_or(SIZE_MAX), disk.free / disk.directories);
  return smallest.value_or(0) * directories.size();
}

kernels::cpu::ThreadPlacement place_compute_threads(comm::Communicator& communicator) {
  kernels::cpu::ThreadShare share{.ranks = 0, .allowed = allowed_cpus()};
  const std::string mine = fmt::format("{} {}", host_name(), fmt::join(share.allowed, ","));
  int other_rank = 0;
  for (const auto& other : communicator.exchange(std::as_bytes(std::span(mine)))) {
    if (std::ranges::equal(other, std::as_bytes(std::span(mine)))) {
      if (other_rank == communicator.rank()) share.rank = share.ranks;
      ++share.ranks;
    }
    ++other_rank;
  }
  const bool known = !share.allowed.empty();
  const int cpus =
      known ? static_cast<int>(share.allowed.size()) : static_cast<int>(std::thread::hardware_concurrency());
  const int all = std::max(1, cpus / std::max(1, share.ranks));
  share.threads = all;
  if (const char* asked = std::getenv("OMP_NUM_THREADS"); asked != nullptr && std::atoi(asked) > 0)
    share.threads = std::min(std::atoi(asked), kMostThreads);
  if (const char* bind = std::getenv("OMP_PROC_BIND"); bind != nullptr && std::string_view(bind) == "false")
    return {.threads = share.threads, .cpus = {}, .text = "compute threads are not bound, as OMP_PROC_BIND says"};
  if (!known)
    return {.threads = share.threads,
            .cpus = {},
            .text = "compute threads are not bound: the system does not say which CPUs this process may use"};
  // A job that leaves CPUs to others cannot know which.
  if (share.threads < all)
    return {.threads = share.threads, .cpus = {}, .text = "compute threads are not bound: they do not fill the CPUs"};
  return place_threads(share);
}

}  // namespace spillway::train
