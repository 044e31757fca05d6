// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "plan/placement.hpp"
#include "train/extents.hpp"
#include "train/state_layout.hpp"
#include "train/zero.hpp"

namespace spillway::train {

/// Which memory an extent of a kind lies in, and where in it: pure arithmetic, the same for the plan and for what is allocated. Of each
/// kind there is one memory on the device and one in host memory, in which its extents follow each other. The weights of a unit lie
/// together: those that this rank owns, or the whole unit's around them.
class StatePlaces {
 public:
  /// The name of a kind's ledger entries.
  [[nodiscard]] static std::string entry_name(StateKind kind, const StateLayout& layout);

  /// \param extents  of make_extents()
  StatePlaces(const Zero& zero, const StateLayout& layout, const std::vector<Extent>& extents, bool whole_weights);

  /// Bytes of an extent by itself.
  [[nodiscard]] std::vector<std::size_t> bytes(StateKind kind) const;
  /// What each extent takes in memory; of a unit's weights the first has all.
  [[nodiscard]] std::vector<std::size_t> memory_bytes(StateKind kind) const;

  /// Where an extent's elements lie.
  struct Place {
    plan::Tier tier = plan::Tier::device;
    std::size_t offset = 0;     // of the run, in the memory of that kind and tier
    std::int64_t elements = 0;  // of the run: an extent, or a unit's weights
    std::int64_t begin = 0;     // of the extent, in the run
  };
  /// Of every extent. Those on nvme have no place in memory. \throws Error if a unit's weights are not on one tier
  [[nodiscard]] std::vector<Place> places(StateKind kind, const plan::Placement& placement) const;

 private:
  [[nodiscard]] Range run_of(StateKind kind, const Extent& extent) const;

  const Zero& zero_;
  const StateLayout& layout_;
  const std::vector<Extent>& extents_;
  bool whole_weights_;
};

}  // namespace spillway::train
