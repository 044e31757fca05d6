// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace spillway::kernels::cpu {

/// What the ranks of a node share out.
struct ThreadShare {
  int threads = 1;           // compute threads of each rank
  int rank = 0, ranks = 1;   // this rank among those of the node that may use the same CPUs
  std::vector<int> allowed;  // these CPUs, by the system's numbers: what the launcher bound the rank to
};

/// Which CPUs each compute thread of a rank is bound to.
struct ThreadPlacement {
  int threads = 1;
  std::vector<std::vector<int>> cpus;  // of each thread, by the system's numbers; empty if threads are not bound
  std::string text;                    // what was decided, for the log
};

/// Spreads the threads of all ranks evenly over the allowed part of the machine, as hwloc sees it: ranks side by side, no two threads
/// on the same CPU, and on the same core only if there are fewer cores than threads. Nothing is bound if there are fewer CPUs than
/// threads, or a rank has a single thread. Every rank of the node decides the same with the same numbers.
/// \param synthetic  a machine in hwloc's words ("pack:2 core:4 pu:2") to take for this one; null for this one
[[nodiscard]] ThreadPlacement place_threads(const ThreadShare& share, const char* synthetic = nullptr);

/// Binds the calling thread. \return whether the system let it
bool bind_this_thread(const std::vector<int>& cpus);

}  // namespace spillway::kernels::cpu
