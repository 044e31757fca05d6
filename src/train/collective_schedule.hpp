// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/job.hpp"

namespace spillway::train {

/// One collective of a step.
struct ScheduledCollective {
  std::string op;         // of the step program, "acquire encoder.3"
  std::string operation;  // "all_gather", "reduce_scatter", "exchange"
  DType dtype = DType::f32;
  std::size_t bytes = 0;  // of the whole tensor; 0: messages, whose lengths may differ
  int ranks = 1;          // of the group
  /// "acquire encoder.3: all_gather of 4096 bytes of bf16 among 2 ranks".
  [[nodiscard]] std::string text() const;
  friend bool operator==(const ScheduledCollective&, const ScheduledCollective&) = default;
};

/// The collectives of a step that finds no weights gathered, as its program's ops ask for them: known before the first step,
/// and the same on every rank, or one would wait for what no other sends. A gradient's copies are exchanged at its last
/// reduction or, where that is still to be added up or rounded, later. A step that overflows in fp16 has one more, for the name
/// of the place. Empty on one rank.
[[nodiscard]] std::vector<ScheduledCollective> collective_schedule(const Job& job);

/// Over all of it: ranks compare this, and what differs only if it does.
[[nodiscard]] std::uint64_t hash_of(const std::vector<ScheduledCollective>& schedule);

/// The first entry that differs, "\n  collective 17 of a step: rank 0 has X, rank 2 has Y"; empty if none does.
/// \param schedules  a line for each entry, of rank 0 and of rank `other`
[[nodiscard]] std::string first_difference(const std::string& first, const std::string& second, int other);

/// A line for each entry.
[[nodiscard]] std::string text_of(const std::vector<ScheduledCollective>& schedule);

}  // namespace spillway::train
