// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace spillway::plan {

/// What a step is made of. A unit's weights are whole from its acquire to its release; its gradient buffer is its own from
/// begin_gradient to the end of the reduction; a stage's residuals live from forward to backward in the same slot.
enum class OpKind {
  prefetch,        // start to gather a unit's weights
  acquire,         // wait until they are whole
  begin_gradient,  // zero the unit's gradient buffer, once its last reduction is over
  forward,         // a stage of the micro-batch in `slot`
  backward,
  release,  // the unit's weights may be dropped
  reduce,   // sum the unit's gradient over ranks into its shard
  norm,     // wait for all reductions; norm of the whole gradient
  update    // the unit's optimizer step, in the background
};

/// "forward", "begin_gradient".
[[nodiscard]] const char* name_of(OpKind kind) noexcept;

struct Op {
  OpKind kind = OpKind::forward;
  int unit = -1;   // what it is about, where it is about a unit
  int stage = -1;  // forward, backward
  int slot = -1;   // forward, backward: place in the group
  int group = 0;   // which group of micro-batches
  friend bool operator==(const Op&, const Op&) = default;
};

/// What the program does with a unit.
struct UnitRole {
  bool persistent = false;    // held for the whole step
  bool trainable = true;      // has a gradient and is updated
  bool written_once = false;  // a micro-batch's backward pass writes each tensor of its gradient once
};

/// The model and the job as the program sees them.
struct ProgramFacts {
  std::vector<int> stage_units;  // the unit of every stage in forward order; those of persistent units need no acquire
  std::vector<bool> stage_backward;  // whether the stage has a backward pass; not given: all have
  std::vector<UnitRole> units;       // numbered in forward order; 0 is persistent
  int micro_batches = 1;             // of one rank
  int group_size = 1;                // micro-batches that run a stage before the next stage runs
};

/// The ordered list of what one optimizer step does: the same on every rank and in every step, known before the first.
struct StepProgram {
  std::vector<Op> ops;
  int groups = 0;
  int group_size = 0;
  /// Compared between ranks at start: ranks that would issue other collectives must not begin.
  [[nodiscard]] std::uint64_t hash() const noexcept;
  /// One line for each op, for people.
  [[nodiscard]] std::string text() const;
};

[[nodiscard]] StepProgram make_step_program(const ProgramFacts& facts);

}  // namespace spillway::plan
