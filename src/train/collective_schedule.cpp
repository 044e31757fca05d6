// SPDX-License-Identifier: Apache-2.0
#include "train/collective_schedule.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <sstream>

#include <fmt/format.h>

#include "checkpoint/hash.hpp"
#include "core/error.hpp"
#include "train/op_names.hpp"

namespace spillway::train {
namespace {

/// Which units' weights are whole: the order of calls alone decides it, as in Parameters.
class Gathered {
 public:
  explicit Gathered(const Job& job) : own_(job.units.size()), whole_(job.units.size()) {
    const std::vector<bool> streamed = job.plan.placement.streamed_units(job.facts);
    for (std::size_t unit = 0; unit < own_.size(); ++unit)
      own_[unit] = job.units[unit].persistent || (job.zero.stage < 3 && !streamed[unit]);
  }

  /// \return whether it is gathered now
  bool prefetch(int unit) { return bring(unit, &Place::wanted); }
  bool acquire(int unit) {
    const bool gathered = bring(unit, nullptr);
    if (Place* place = find(unit)) {
      place->wanted = false;
      place->last_use = ++uses_;
      ++place->users;
    }
    return gathered;
  }
  void release(int unit) {
    if (Place* place = find(unit)) --place->users;
  }

 private:
  struct Place {
    int unit = -1, users = 0;
    bool wanted = false;
    std::uint64_t last_use = 0;
  };

  Place* find(int unit) {
    const auto found = std::ranges::find(shared_, unit, &Place::unit);
    return found == shared_.end() ? nullptr : &*found;
  }

  bool bring(int unit, bool Place::*mark) {
    const auto index = static_cast<std::size_t>(unit);
    if (own_[index]) {
      const bool gathered = !whole_[index];
      whole_[index] = true;
      return gathered;
    }
    if (find(unit) != nullptr) return false;
    Place* oldest = nullptr;
    for (Place& place : shared_)
      if (place.users == 0 && !place.wanted && (oldest == nullptr || place.last_use < oldest->last_use))
        oldest = &place;
    if (oldest == nullptr) return false;
    oldest->unit = unit;
    oldest->last_use = ++uses_;
    if (mark != nullptr) oldest->*mark = true;
    return true;
  }

  std::vector<bool> own_, whole_;  // of each unit
  std::array<Place, plan::kGatherSlots> shared_;
  std::uint64_t uses_ = 0;
};

class Writer {
 public:
  explicit Writer(const Job& job)
      : job_(job), names_(job.plan.program, *job.layout, job.stages), gathered_(job), left_(job.units.size()) {
    for (const plan::Op& op : job.plan.program.ops)
      if (op.kind == plan::OpKind::reduce) ++left_[static_cast<std::size_t>(op.unit)];
  }

  std::vector<ScheduledCollective> write() {
    for (std::size_t i = 0; i < job_.plan.program.ops.size(); ++i) add(i, job_.plan.program.ops[i]);
    exchange("end of the step");
    return std::move(schedule_);
  }

 private:
  void add(std::size_t index, const plan::Op& op) {
    const std::string& name = names_.op(index);
    switch (op.kind) {
      case plan::OpKind::prefetch:
        if (gathered_.prefetch(op.unit)) gather(name, op.unit);
        break;
      case plan::OpKind::acquire:
        if (gathered_.acquire(op.unit)) gather(name, op.unit);
        break;
      case plan::OpKind::release: gathered_.release(op.unit); break;
      case plan::OpKind::reduce: reduce(name, op.unit); break;
      case plan::OpKind::norm: exchange(name); break;
      case plan::OpKind::update:
        // Row and column sums, then those of the update.
        if (job_.adafactor)
          for (int sums = 0; sums < 2; ++sums) exchange(name);
        break;
      case plan::OpKind::begin_gradient:
      case plan::OpKind::forward:
      case plan::OpKind::backward: break;
    }
  }

  void gather(const std::string& name, int unit) {
    if (!job_.zero.sharded()) return;
    tensor(name, "all_gather", job_.dtype(), job_.map->unit_elements(unit), job_.zero.shards);
  }

  void reduce(const std::string& name, int unit) {
    tensor(name, "reduce_scatter", job_.gradients.reduce, job_.map->unit_elements(unit), job_.map->ranks());
    if (--left_[static_cast<std::size_t>(unit)] == 0 && job_.zero.copies() > 1)
      tensor(name, "all_gather", job_.gradients.grad, job_.zero.owned(unit).size(), job_.zero.copies());
  }

  void tensor(const std::string& name, const char* operation, DType dtype, std::int64_t elements, int ranks) {
    schedule_.push_back({name, operation, dtype, static_cast<std::size_t>(elements) * size_of(dtype), ranks});
  }

  void exchange(const std::string& name) {
    schedule_.push_back(
        {.op = name, .operation = "exchange", .dtype = DType::f64, .bytes = 0, .ranks = job_.map->ranks()});
  }

  const Job& job_;
  OpNames names_;
  Gathered gathered_;
  std::vector<int> left_;  // reductions of each unit
  std::vector<ScheduledCollective> schedule_;
};

}  // namespace

std::string ScheduledCollective::text() const {
  if (bytes == 0) return fmt::format("{}: {} among {} ranks", op, operation, ranks);
  return fmt::format("{}: {} of {} bytes of {} among {} ranks", op, operation, bytes, name_of(dtype), ranks);
}

std::vector<ScheduledCollective> collective_schedule(const Job& job) {
  if (job.map->ranks() == 1) return {};
  return Writer(job).write();
}

std::string text_of(const std::vector<ScheduledCollective>& schedule) {
  std::string text;
  for (const ScheduledCollective& collective : schedule) text += collective.text() + "\n";
  return text;
}

std::uint64_t hash_of(const std::vector<ScheduledCollective>& schedule) {
  const std::string text = text_of(schedule);
  return checkpoint::hash_of(std::as_bytes(std::span(text)));
}

std::string first_difference(const std::string& first, const std::string& second, int other) {
  std::istringstream mine(first), theirs(second);
  for (int number = 1;; ++number) {
    std::string here, there;
    if (!std::getline(mine, here)) here = "no more";
    if (!std::getline(theirs, there)) there = "no more";
    if (!mine && !theirs) return {};
    if (here != there)
      return fmt::format("\n  collective {} of a step: rank 0 has {}, rank {} has {}", number, here, other, there);
  }
}

}  // namespace spillway::train
