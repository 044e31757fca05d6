// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "plan/placement.hpp"

namespace spillway::plan {

/// How much of what a GPU cannot keep the CPU updates. An extent in host memory costs the link all of its state both ways if the GPU updates it,
/// and a gradient and a weight down and a weight up if the CPU does; its master then needs no place on the device either.
struct CpuShare {
  double of_host =
      0.0;  // of the extents in host memory, in every unit alike, so that both are through with it at the same time
  /// Those on nvme. They lie in host memory whenever they are updated, and a drive is slower than any update.
  bool of_nvme = false;
  friend bool operator==(const CpuShare&, const CpuShare&) = default;
};

/// What is done where nothing is known of the machine's rates: automatic: what is on nvme; split: a quarter of the rest too, since a CPU
/// updates about half as many parameters as a link of its machine moves. Without a GPU nothing.
[[nodiscard]] CpuShare usual_cpu_share(const JobFacts& job);
/// Every share to try, the usual one among them.
[[nodiscard]] std::vector<CpuShare> cpu_shares(const JobFacts& job);

/// place_nearest() with a share of what is not on the device updated by the CPU. What that frees on the device is taken by the first of
/// the others. An extent whose moments are asked to be on the device stays the GPU's.
[[nodiscard]] Placement place_shared(const JobFacts& job, Room room, const CpuShare& share);

/// Where each kind that is on the device begins in a place of the ring in pinned memory that what the CPU updates passes through, and where
/// the place ends. Every place holds the largest there is of each.
[[nodiscard]] std::vector<std::size_t> cpu_ring_offsets(const JobFacts& job, const Placement& placement);
/// Of that ring. There are no more places than extents.
[[nodiscard]] std::size_t cpu_ring_bytes(const JobFacts& job, const Placement& placement);

}  // namespace spillway::plan
