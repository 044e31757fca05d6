// SPDX-License-Identifier: Apache-2.0
#include "plan/step_program.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include <fmt/format.h>

namespace spillway::plan {
namespace {

constexpr std::array kOpNames = {"prefetch", "acquire", "begin_gradient", "forward", "backward",
                                 "release",  "reduce",  "norm",           "update"};

class Builder {
 public:
  explicit Builder(const ProgramFacts& facts) : facts_(facts) {}

  StepProgram build() {
    program_.group_size = facts_.group_size;
    program_.groups = (facts_.micro_batches + facts_.group_size - 1) / facts_.group_size;
    for_persistent([&](int unit) { push({.kind = OpKind::prefetch, .unit = unit}); });
    for_persistent([&](int unit) { push({.kind = OpKind::acquire, .unit = unit}); });
    for_persistent([&](int unit) {
      if (role(unit).trainable) push({.kind = OpKind::begin_gradient, .unit = unit});
    });
    for (int group = 0; group < program_.groups; ++group) add_group(group);
    for_persistent([&](int unit) { push({.kind = OpKind::release, .unit = unit}); });
    for_persistent([&](int unit) {
      if (role(unit).trainable) push({.kind = OpKind::reduce, .unit = unit, .group = program_.groups - 1});
    });
    push({.kind = OpKind::norm});
    for (int unit = 0; unit < static_cast<int>(facts_.units.size()); ++unit)
      if (role(unit).trainable) push({.kind = OpKind::update, .unit = unit});
    return std::move(program_);
  }

 private:
  struct Visit {
    int stage;
    bool backward;
  };

  void push(const Op& op) { program_.ops.push_back(op); }
  [[nodiscard]] const UnitRole& role(int unit) const { return facts_.units[static_cast<std::size_t>(unit)]; }
  [[nodiscard]] int unit_of(int stage) const { return facts_.stage_units[static_cast<std::size_t>(stage)]; }
  [[nodiscard]] bool gathered(int stage) const { return !role(unit_of(stage)).persistent; }
  [[nodiscard]] bool has_backward(int stage) const {
    return facts_.stage_backward.empty() || facts_.stage_backward[static_cast<std::size_t>(stage)];
  }

  template <typename Visit>
  void for_persistent(const Visit& visit) const {
    for (int unit = 0; unit < static_cast<int>(facts_.units.size()); ++unit)
      if (role(unit).persistent) visit(unit);
  }

  /// The unit whose weights the walk needs after visit `index`, if any.
  [[nodiscard]] std::optional<int> next_unit(const std::vector<Visit>& walk, std::size_t index) const {
    for (std::size_t i = index + 1; i < walk.size(); ++i)
      if (gathered(walk[i].stage) && unit_of(walk[i].stage) != unit_of(walk[index].stage))
        return unit_of(walk[i].stage);
    return std::nullopt;
  }

  void add_group(int group) {
    const int stages = static_cast<int>(facts_.stage_units.size());
    const int head = stages - 1;
    std::vector<Visit> walk;
    for (int stage = 0; stage < stages; ++stage) walk.push_back({stage, false});
    for (int stage = head - 1; stage >= 0; --stage)  // the head's backward is part of its forward
      if (has_backward(stage)) walk.push_back({stage, true});
    const int in_group = std::min(facts_.group_size, facts_.micro_batches - group * facts_.group_size);

    for (std::size_t i = 0; i < walk.size(); ++i) {
      const auto [stage, backward] = walk[i];
      const int unit = unit_of(stage);
      const bool makes_gradient = (backward || stage == head) && role(unit).trainable;
      if (gathered(stage)) {
        push({.kind = OpKind::acquire, .unit = unit, .group = group});
        if (makes_gradient) push({.kind = OpKind::begin_gradient, .unit = unit, .group = group});
      }
      if (const std::optional<int> next = next_unit(walk, i))
        push({.kind = OpKind::prefetch, .unit = *next, .group = group});
      for (int slot = 0; slot < in_group; ++slot)
        push({.kind = backward ? OpKind::backward : OpKind::forward,
              .unit = unit,
              .stage = stage,
              .slot = slot,
              .group = group});
      if (gathered(stage)) {
        push({.kind = OpKind::release, .unit = unit, .group = group});
        if (makes_gradient) push({.kind = OpKind::reduce, .unit = unit, .group = group});
      }
    }
  }

  const ProgramFacts& facts_;
  StepProgram program_;
};

}  // namespace

const char* name_of(OpKind kind) noexcept { return kOpNames[static_cast<std::size_t>(kind)]; }

std::uint64_t StepProgram::hash() const noexcept {
  std::uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a
  const auto mix = [&hash](int value) { hash = (hash ^ static_cast<std::uint32_t>(value)) * 0x100000001b3ULL; };
  for (const Op& op : ops)
    for (const int value : {static_cast<int>(op.kind), op.unit, op.stage, op.slot, op.group}) mix(value);
  return hash;
}

std::string StepProgram::text() const {
  std::string out;
  for (const Op& op : ops) {
    out += name_of(op.kind);
    if (op.unit >= 0) out += fmt::format(" unit {}", op.unit);
    if (op.stage >= 0) out += fmt::format(" stage {} slot {}", op.stage, op.slot);
    out += fmt::format(" group {}\n", op.group);
  }
  return out;
}

StepProgram make_step_program(const ProgramFacts& facts) { return Builder(facts).build(); }

}  // namespace spillway::plan
