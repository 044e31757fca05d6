// SPDX-License-Identifier: Apache-2.0
#include "train/machine.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string_view>

#include <fmt/format.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/error.hpp"

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

/// This process's group; empty if the system has none of version 2.
std::string own_control_group() {
  std::ifstream groups("/proc/self/cgroup");
  std::string path;
  for (std::string line; std::getline(groups, line);)
    if (line.starts_with("0::")) path = line.substr(3);
  return path;
}

}  // namespace

std::size_t resident_bytes() { return kilobyte_line("/proc/self/status", "VmRSS:"); }
std::size_t peak_resident_bytes() { return kilobyte_line("/proc/self/status", "VmHWM:"); }

std::optional<std::size_t> control_group_room(const std::string& mount, std::string group) {
  std::optional<std::size_t> room;
  while (!group.empty()) {
    const std::string folder = mount + (group == "/" ? std::string() : group);
    const auto limit = number_in(folder + "/memory.max");
    const auto current = number_in(folder + "/memory.current");
    if (limit && current) {
      const std::size_t used = *current - std::min(*current, entry_of(folder + "/memory.stat", "inactive_file"));
      room = std::min(room.value_or(*limit), *limit > used ? *limit - used : 0);
    }
    group = group == "/" ? std::string() : group.substr(0, std::max<std::size_t>(group.rfind('/'), 1));
  }
  return room;
}

std::size_t available_memory_bytes() {
  const std::size_t available = kilobyte_line("/proc/meminfo", "MemAvailable:");
  return std::min(available, control_group_room("/sys/fs/cgroup", own_control_group()).value_or(available));
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
  struct Binding {
    std::array<char, 64> host{};
    cpu_set_t cpus{};
  };
  Binding mine;
  gethostname(mine.host.data(), mine.host.size() - 1);
  CPU_ZERO(&mine.cpus);
  sched_getaffinity(0, sizeof(mine.cpus), &mine.cpus);
  kernels::cpu::ThreadShare share{.ranks = 0};
  int other_rank = 0;
  for (const auto& bytes : communicator.exchange(std::as_bytes(std::span(&mine, 1)))) {
    Binding other;
    std::memcpy(&other, bytes.data(), sizeof(other));
    if (other.host == mine.host && CPU_EQUAL(&other.cpus, &mine.cpus)) {
      if (other_rank == communicator.rank()) share.rank = share.ranks;
      ++share.ranks;
    }
    ++other_rank;
  }
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &mine.cpus)) share.allowed.push_back(cpu);
  const int all = std::max(1, static_cast<int>(share.allowed.size()) / std::max(1, share.ranks));
  share.threads = all;
  if (const char* asked = std::getenv("OMP_NUM_THREADS"); asked != nullptr && std::atoi(asked) > 0)
    share.threads = std::min(std::atoi(asked), kMostThreads);
  if (const char* bind = std::getenv("OMP_PROC_BIND"); bind != nullptr && std::string_view(bind) == "false")
    return {.threads = share.threads, .cpus = {}, .text = "compute threads are not bound, as OMP_PROC_BIND says"};
  // A job that leaves CPUs to others cannot know which.
  if (share.threads < all)
    return {.threads = share.threads, .cpus = {}, .text = "compute threads are not bound: they do not fill the CPUs"};
  return place_threads(share);
}

}  // namespace spillway::train
