// SPDX-License-Identifier: Apache-2.0
#include "train/checkpoint_state.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

const std::string kMaster = name_of(StateKind::master);

bool is_replicated(const Job& job, const std::string& kind) { return job.adafactor && kind != kMaster; }

/// Of a piece's range in such a kind, in all of its values.
Range range_in(const AdafactorState& state, const std::string& kind, int unit, int piece, Range range) {
  const std::int64_t begin = state.layout(kind).shard(unit, piece).begin;
  return {begin + range.begin, begin + range.end};
}

template <typename T>
std::span<T> part_of(std::span<T> values, Range range) {
  return values.subspan(static_cast<std::size_t>(range.begin), static_cast<std::size_t>(range.size()));
}

std::vector<checkpoint::StateKind> all_kinds(const Job& job) {
  std::vector<checkpoint::StateKind> kinds = sharded_kinds(job, true);
  for (const checkpoint::StateKind& kind : replicated_kinds(job)) kinds.push_back(kind);
  return kinds;
}

/// The engine's ranges count from what a rank owns, a checkpoint's from the piece's start.
Range in_owned(const Job& job, int unit, Range range) {
  const std::int64_t begin = job.zero.piece_in_owned(unit).begin;
  return {begin + range.begin, begin + range.end};
}

StateKind kind_of(const std::string& name) {
  for (const StateKind kind : {StateKind::master, StateKind::exp_avg, StateKind::exp_avg_sq})
    if (name == name_of(kind)) return kind;
  throw Error(fmt::format("there is no state of kind {}", name));
}

}  // namespace

std::vector<checkpoint::StateKind> sharded_kinds(const Job& job, bool optimizer_state) {
  std::vector<checkpoint::StateKind> kinds = {{kMaster, job.map.get()}};
  if (optimizer_state && !job.adafactor)
    for (const StateKind moment : {StateKind::exp_avg, StateKind::exp_avg_sq})
      kinds.push_back({name_of(moment), job.trainable_map.get()});
  return kinds;
}

std::vector<checkpoint::StateKind> replicated_kinds(const Job& job) {
  std::vector<checkpoint::StateKind> kinds;
  if (job.adafactor)
    for (const std::string& kind : job.adafactor->kinds()) kinds.push_back({kind, &job.adafactor->layout(kind)});
  return kinds;
}

std::vector<checkpoint::StateKind> EngineSource::kinds() const { return all_kinds(engine_.job()); }

void EngineSource::read(const std::string& kind, int unit, Range range, std::span<float> to) {
  const Job& job = engine_.job();
  if (is_replicated(job, kind)) {
    const Range there = range_in(*job.adafactor, kind, unit, job.zero.piece(), range);
    std::ranges::copy(part_of(job.adafactor->values(kind), there), to.begin());
    return;
  }
  engine_.state().read(kind, unit, in_owned(job, unit, range), to);
}

std::vector<checkpoint::StateKind> SnapshotSource::kinds() const { return all_kinds(engine_.job()); }

void SnapshotSource::read(const std::string& kind, int unit, Range range, std::span<float> to) {
  const Job& job = engine_.job();
  if (!is_replicated(job, kind)) {
    engine_.snapshot()->read(kind_of(kind), unit, in_owned(job, unit, range), to);
    return;
  }
  std::size_t before = 0;
  for (const std::string& other : job.adafactor->kinds()) {
    if (other == kind) break;
    before += job.adafactor->values(other).size();
  }
  const Range there = range_in(*job.adafactor, kind, unit, job.zero.piece(), range);
  std::ranges::copy(part_of(means_.subspan(before), there), to.begin());
}

void EngineSink::write(const std::string& kind, int unit, Range range, std::span<const float> from) {
  const Job& job = engine_.job();
  if (is_replicated(job, kind)) {
    const Range there = range_in(*job.adafactor, kind, unit, piece_, range);
    std::ranges::copy(from, part_of(job.adafactor->values(kind), there).begin());
    return;
  }
  const std::int64_t begin = job.map->shard(unit, piece_).begin - job.zero.owned(unit).begin;
  engine_.state().write(kind, unit, {begin + range.begin, begin + range.end}, from);
}

}  // namespace spillway::train
