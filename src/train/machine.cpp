// SPDX-License-Identifier: Apache-2.0
#include "train/machine.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <set>
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

/// What the control group of this process leaves, walking up to the root; nothing if no limit is set.
std::optional<std::size_t> control_group_room() {
  std::ifstream groups("/proc/self/cgroup");
  std::string path;
  for (std::string line; std::getline(groups, line);)
    if (line.starts_with("0::")) path = line.substr(3);
  std::optional<std::size_t> room;
  while (!path.empty()) {
    const std::string folder = "/sys/fs/cgroup" + (path == "/" ? std::string() : path);
    const auto limit = number_in(folder + "/memory.max");
    const auto used = number_in(folder + "/memory.current");
    if (limit && used) room = std::min(room.value_or(*limit), *limit > *used ? *limit - *used : 0);
    path = path == "/" ? std::string() : path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
    if (path.empty()) break;
    if (path == "/" && !std::ifstream("/sys/fs/cgroup/memory.max")) break;
  }
  return room;
}

}  // namespace

std::size_t resident_bytes() { return kilobyte_line("/proc/self/status", "VmRSS:"); }
std::size_t peak_resident_bytes() { return kilobyte_line("/proc/self/status", "VmHWM:"); }

std::size_t available_memory_bytes() {
  const std::size_t available = kilobyte_line("/proc/meminfo", "MemAvailable:");
  return std::min(available, control_group_room().value_or(available));
}

std::size_t free_disk_bytes(const std::vector<std::string>& directories) {
  std::set<dev_t> seen;
  std::size_t sum = 0;
  for (const std::string& directory : directories) {
    struct stat status {};
    struct statvfs space {};
    if (stat(directory.c_str(), &status) != 0 || statvfs(directory.c_str(), &space) != 0)
      throw ConfigError(fmt::format("offload.nvme_dirs: {}: {}", directory, std::strerror(errno)));
    if (seen.insert(status.st_dev).second) sum += static_cast<std::size_t>(space.f_bavail) * space.f_frsize;
  }
  return sum;
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
  share.threads = std::max(1, static_cast<int>(share.allowed.size()) / std::max(1, share.ranks));
  if (const char* asked = std::getenv("OMP_NUM_THREADS"); asked != nullptr && std::atoi(asked) > 0)
    share.threads = std::atoi(asked);
  if (const char* bind = std::getenv("OMP_PROC_BIND"); bind != nullptr && std::string_view(bind) == "false")
    return {.threads = share.threads, .cpus = {}, .text = "compute threads are not bound, as OMP_PROC_BIND says"};
  return place_threads(share);
}

}  // namespace spillway::train
