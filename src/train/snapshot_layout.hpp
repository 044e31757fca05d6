// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "plan/placement.hpp"
#include "train/extents.hpp"
#include "train/job.hpp"
#include "train/state_layout.hpp"
#include "train/zero.hpp"

namespace spillway::train {

/// What a snapshot of a rank's state is copied in: of every kind that a checkpoint has, what one extent holds of the rank's piece. In the
/// order in which a checkpoint is written, and units are updated: unit by unit, of each kind by kind. Pure arithmetic.
class SnapshotLayout {
 public:
  struct Part {
    StateKind kind{};  // as in a checkpoint: the master is made of the weight and of what makes that exact
    int unit = 0;
    std::size_t extent = 0;
    Range range;            // in the unit's owned elements
    std::size_t bytes = 0;  // of the snapshot's memory
  };
  /// Bytes of a part as they are stored, in the form that StateLayout gives a run of elements.
  struct Run {
    StateKind kind{};
    std::size_t offset = 0, bytes = 0;  // in the part
    Range elements;                     // what it holds: of a file whole extents
  };

  SnapshotLayout(const Zero& zero, StateLayout state, const std::vector<Extent>& extents,
                 const plan::Placement& placement);

  [[nodiscard]] const std::vector<Part>& parts() const noexcept { return parts_; }
  [[nodiscard]] const std::vector<Run>& runs(std::size_t part) const { return runs_[part]; }
  [[nodiscard]] const StateLayout& state() const noexcept { return state_; }
  /// Of all parts side by side.
  [[nodiscard]] std::size_t whole_bytes() const noexcept { return whole_bytes_; }
  /// With which one part can be copied while another is written.
  [[nodiscard]] std::size_t least_bytes() const noexcept { return 2 * largest_part_; }

 private:
  void add(StateKind kind, std::size_t extent, const Extent& whole, Range range, const plan::Placement& placement);

  StateLayout state_;
  std::vector<Part> parts_;
  std::vector<std::vector<Run>> runs_;  // of each part
  std::size_t whole_bytes_ = 0, largest_part_ = 0;
};

/// Of a job whose plan is made.
[[nodiscard]] SnapshotLayout snapshot_layout(const Job& job);
/// Bytes at the beginning of a snapshot's memory for what every rank has all of: Adafactor's rows and columns.
[[nodiscard]] std::size_t snapshot_factor_bytes(const Job& job);

/// How a job saves every few steps.
enum class Saving {
  blocking,   // training waits: that was asked for, there are no such saves, or the host has no room for any of it
  in_pieces,  // beside training, which waits for what has not passed through the snapshot's memory
  whole       // beside training, which waits for what has not been copied
};
[[nodiscard]] Saving saving_of(const Job& job);

/// Gives the job's plan the snapshot that such saving needs, of the host memory that is left: all of the state, or half of what there is, or
/// none. It goes before no other use of memory. \param room  bytes
void add_snapshot(Job& job, std::size_t room);
/// What the job's plan leaves of its host budget.
[[nodiscard]] std::size_t room_for_snapshot(const Job& job);

}  // namespace spillway::train
