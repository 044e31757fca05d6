// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "kernels/cpu/thread_placement.hpp"

namespace spillway::train {

/// Bytes of this process in memory now (VmRSS).
[[nodiscard]] std::size_t resident_bytes();
/// The most that there ever were (VmHWM).
[[nodiscard]] std::size_t peak_resident_bytes();
/// Bytes that this node's processes may still take: MemAvailable, and never more than this control group's limit leaves.
[[nodiscard]] std::size_t available_memory_bytes();
/// Bytes that a process's control groups and those above them leave: the limit less what is used and cannot be given back at once, as
/// page cache that nobody has touched for a while can. Nothing if there is no limit.
/// \param mount   where groups of version 2 are mounted; those of version 1 for memory are in its folder "memory"
/// \param groups  a text like that of /proc/self/cgroup: "0::/a/b" for version 2, "4:memory:/a/b" for version 1
[[nodiscard]] std::optional<std::size_t> control_group_room(const std::string& mount, const std::string& groups);
/// Bytes that fit when they are dealt to the directories in equal parts: as many times the smallest part as there are directories,
/// where those on one file system share what is free there. \throws ConfigError naming one that is not there
[[nodiscard]] std::size_t free_disk_bytes(const std::vector<std::string>& directories);
/// Threads that this rank computes with, and where: the CPUs it is bound to, divided by the ranks of the node that are bound to the
/// same ones, a thread on each; unbound if the system does not say what the rank is bound to. OMP_NUM_THREADS goes before that;
/// OMP_PROC_BIND=false leaves the threads unbound. Collective.
[[nodiscard]] kernels::cpu::ThreadPlacement place_compute_threads(comm::Communicator& communicator);

}  // namespace spillway::train
