// SPDX-License-Identifier: Apache-2.0
#include "plan/step_program.hpp"

#include <algorithm>
#include <deque>
#include <functional>
#include <map>

#include <gmock/gmock.h>

#include "plan/plan.hpp"

namespace spillway::plan {
namespace {

/// Two encoder and two decoder blocks: embedding, encoder blocks, encoder output, embedding, decoder blocks, head.
ProgramFacts facts_of(bool untied, int micro_batches, int group_size) {
  std::vector<UnitRole> units(untied ? 6 : 5);
  units[0].persistent = true;
  return {.stage_units = {0, 1, 2, 0, 0, 3, 4, untied ? 5 : 0},
          .stage_backward = {},
          .units = units,
          .micro_batches = micro_batches,
          .group_size = group_size};
}

TEST(StepProgram, OfASmallModel_IsThisList) {
  const StepProgram program = make_step_program(
      {.stage_units = {0, 1, 0, 0, 2, 0}, .stage_backward = {}, .units = {{.persistent = true}, {}, {}}});

  EXPECT_EQ(program.text(),
            "prefetch unit 0 group 0\n"
            "acquire unit 0 group 0\n"
            "begin_gradient unit 0 group 0\n"
            "prefetch unit 1 group 0\n"
            "forward unit 0 stage 0 slot 0 group 0\n"
            "acquire unit 1 group 0\n"
            "prefetch unit 2 group 0\n"
            "forward unit 1 stage 1 slot 0 group 0\n"
            "release unit 1 group 0\n"
            "prefetch unit 2 group 0\n"
            "forward unit 0 stage 2 slot 0 group 0\n"
            "prefetch unit 2 group 0\n"
            "forward unit 0 stage 3 slot 0 group 0\n"
            "acquire unit 2 group 0\n"
            "prefetch unit 1 group 0\n"
            "forward unit 2 stage 4 slot 0 group 0\n"
            "release unit 2 group 0\n"
            "prefetch unit 2 group 0\n"
            "forward unit 0 stage 5 slot 0 group 0\n"
            "acquire unit 2 group 0\n"
            "begin_gradient unit 2 group 0\n"
            "prefetch unit 1 group 0\n"
            "backward unit 2 stage 4 slot 0 group 0\n"
            "release unit 2 group 0\n"
            "reduce unit 2 group 0\n"
            "prefetch unit 1 group 0\n"
            "backward unit 0 stage 3 slot 0 group 0\n"
            "prefetch unit 1 group 0\n"
            "backward unit 0 stage 2 slot 0 group 0\n"
            "acquire unit 1 group 0\n"
            "begin_gradient unit 1 group 0\n"
            "backward unit 1 stage 1 slot 0 group 0\n"
            "release unit 1 group 0\n"
            "reduce unit 1 group 0\n"
            "backward unit 0 stage 0 slot 0 group 0\n"
            "release unit 0 group 0\n"
            "reduce unit 0 group 0\n"
            "norm group 0\n"
            "update unit 0 group 0\n"
            "update unit 1 group 0\n"
            "update unit 2 group 0\n");
}

struct Case {
  bool untied;
  int micro_batches, group_size;
};

class StepProgramOf : public ::testing::TestWithParam<Case> {
 protected:
  const ProgramFacts facts = facts_of(GetParam().untied, GetParam().micro_batches, GetParam().group_size);
  const StepProgram program = make_step_program(facts);
  const int stages = static_cast<int>(facts.stage_units.size());

  [[nodiscard]] std::ptrdiff_t count(OpKind kind, int unit, int group) const {
    return std::count_if(program.ops.begin(), program.ops.end(),
                         [&](const Op& op) { return op.kind == kind && op.unit == unit && op.group == group; });
  }
};

TEST_P(StepProgramOf, WeightsAreAcquiredWhileTheyAreUsedAndReleasedOnce) {
  std::map<int, int> held;
  for (const Op& op : program.ops) {
    if (op.kind == OpKind::acquire) {
      EXPECT_EQ(++held[op.unit], 1);
    }
    if (op.kind == OpKind::release) {
      EXPECT_EQ(--held[op.unit], 0);
    }
    if (op.kind == OpKind::forward || op.kind == OpKind::backward) {
      EXPECT_EQ(held[op.unit], 1);
      EXPECT_EQ(held[0], 1);
      EXPECT_EQ(op.unit, facts.stage_units[static_cast<std::size_t>(op.stage)]);
    }
  }
  for (const auto& [unit, times] : held) EXPECT_EQ(times, 0) << unit;
}

TEST_P(StepProgramOf, NoAcquireHasToWaitForAGatherThatWasNotStartedBefore) {
  // The places for gathered units hold the last ones that were asked for.
  std::deque<int> places;
  const auto use = [&](int unit) {
    std::erase(places, unit);
    places.push_back(unit);
    if (places.size() > kGatherSlots) places.pop_front();
  };
  for (const Op& op : program.ops) {
    if (op.unit == 0) continue;
    if (op.kind == OpKind::acquire) {
      EXPECT_TRUE(std::find(places.begin(), places.end(), op.unit) != places.end()) << op.unit << ", " << op.group;
      use(op.unit);
    }
    if (op.kind == OpKind::prefetch) use(op.unit);
  }
}

TEST_P(StepProgramOf, EveryMicroBatchRunsEveryStageOnceForwardThenOnceBackward) {
  std::map<std::pair<int, int>, std::vector<std::pair<OpKind, int>>> runs;  // of each group and slot
  for (const Op& op : program.ops)
    if (op.stage >= 0) runs[{op.group, op.slot}].emplace_back(op.kind, op.stage);
  std::vector<std::pair<OpKind, int>> wanted;
  for (int stage = 0; stage < stages; ++stage) wanted.emplace_back(OpKind::forward, stage);
  for (int stage = stages - 2; stage >= 0; --stage) wanted.emplace_back(OpKind::backward, stage);

  EXPECT_EQ(runs.size(), static_cast<std::size_t>(facts.micro_batches));
  for (const auto& [where, run] : runs) {
    EXPECT_EQ(run, wanted);
    EXPECT_LT(where.second, facts.group_size);
  }
}

TEST_P(StepProgramOf, AStageRunsForTheWholeGroupBeforeTheNextStage) {
  int last_slot = -1;
  const Op* last = nullptr;
  for (const Op& op : program.ops) {
    if (op.stage < 0) continue;
    const bool same = last != nullptr && last->stage == op.stage && last->kind == op.kind && last->group == op.group;
    EXPECT_EQ(op.slot, same ? last_slot + 1 : 0);
    last_slot = op.slot;
    last = &op;
  }
}

TEST_P(StepProgramOf, EveryGroupReducesEveryUnitOnceAfterItsBackward_AndThePersistentUnitAtTheEnd) {
  const int groups = (facts.micro_batches + facts.group_size - 1) / facts.group_size;
  EXPECT_EQ(program.groups, groups);
  EXPECT_EQ(program.group_size, facts.group_size);
  for (int group = 0; group < groups; ++group)
    for (int unit = 1; unit < static_cast<int>(facts.units.size()); ++unit) {
      EXPECT_EQ(count(OpKind::begin_gradient, unit, group), 1);
      EXPECT_EQ(count(OpKind::reduce, unit, group), 1);
    }
  EXPECT_EQ(count(OpKind::begin_gradient, 0, 0), 1);
  EXPECT_EQ(count(OpKind::reduce, 0, groups - 1), 1);

  // A unit's gradient is only added to between its beginning and its reduction.
  const int head = stages - 1;
  std::map<int, bool> open;
  for (const Op& op : program.ops) {
    if (op.kind == OpKind::begin_gradient) open[op.unit] = true;
    if (op.kind == OpKind::backward || (op.kind == OpKind::forward && op.stage == head)) {
      EXPECT_TRUE(open[op.unit]);
      EXPECT_TRUE(open[0]);
    }
    if (op.kind == OpKind::reduce) {
      EXPECT_TRUE(open[op.unit]);
      open[op.unit] = false;
    }
  }
  for (const auto& [unit, is_open] : open) EXPECT_FALSE(is_open) << unit;
}

TEST_P(StepProgramOf, UpdatesComeInForwardOrderAfterTheNormAndAllReductions) {
  const auto norm =
      std::find_if(program.ops.begin(), program.ops.end(), [](const Op& op) { return op.kind == OpKind::norm; });
  ASSERT_NE(norm, program.ops.end());

  EXPECT_TRUE(std::none_of(norm, program.ops.end(), [](const Op& op) { return op.kind == OpKind::reduce; }));
  ASSERT_EQ(program.ops.end() - norm, static_cast<std::ptrdiff_t>(facts.units.size()) + 1);
  for (int unit = 0; unit < static_cast<int>(facts.units.size()); ++unit) {
    EXPECT_EQ((norm + 1 + unit)->kind, OpKind::update);
    EXPECT_EQ((norm + 1 + unit)->unit, unit);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, StepProgramOf,
                         ::testing::Values(Case{false, 1, 1}, Case{true, 1, 1}, Case{false, 4, 4}, Case{true, 4, 2},
                                           Case{true, 5, 2}, Case{false, 3, 1}),
                         [](const auto& shape) {
                           return std::string(shape.param.untied ? "untied_" : "tied_") +
                                  std::to_string(shape.param.micro_batches) + "_in_groups_of_" +
                                  std::to_string(shape.param.group_size);
                         });

/// A frozen encoder: embeddings and norms of it in a persistent unit of their own, its block in a frozen unit.
TEST(StepProgram, OfAFrozenEncoder_HasNoBackwardGradientOrUpdateOfIt) {
  const ProgramFacts facts{
      .stage_units = {1, 2, 1, 1, 3, 4},
      .stage_backward = {false, false, false, false, true, true},
      .units = {{.persistent = true}, {.persistent = true, .trainable = false}, {.trainable = false}, {}, {}}};

  const StepProgram program = make_step_program(facts);

  const auto has = [&](OpKind kind, int unit, int stage = -1) {
    return std::any_of(program.ops.begin(), program.ops.end(), [&](const Op& op) {
      return op.kind == kind && op.unit == unit && (stage < 0 || op.stage == stage);
    });
  };
  for (const int frozen : {1, 2}) {
    EXPECT_TRUE(has(OpKind::acquire, frozen));
    EXPECT_TRUE(has(OpKind::release, frozen));
    for (const OpKind kind : {OpKind::begin_gradient, OpKind::reduce, OpKind::update, OpKind::backward})
      EXPECT_FALSE(has(kind, frozen)) << frozen;
  }
  EXPECT_TRUE(has(OpKind::forward, 2, 1));
  EXPECT_TRUE(has(OpKind::backward, 3, 4));
  for (const int trained : {0, 3, 4})
    for (const OpKind kind : {OpKind::begin_gradient, OpKind::reduce, OpKind::update}) EXPECT_TRUE(has(kind, trained));
}

TEST(StepProgramHash, IsEqualForEqualJobsAndDiffersForOthers) {
  const std::uint64_t hash = make_step_program(facts_of(false, 4, 2)).hash();

  EXPECT_EQ(make_step_program(facts_of(false, 4, 2)).hash(), hash);
  EXPECT_NE(make_step_program(facts_of(false, 4, 4)).hash(), hash);
  EXPECT_NE(make_step_program(facts_of(false, 3, 2)).hash(), hash);
  EXPECT_NE(make_step_program(facts_of(true, 4, 2)).hash(), hash);
}

TEST(StepProgramHash, NoticesTwoOpsThatChangedPlaces) {
  StepProgram program = make_step_program(facts_of(false, 1, 1));
  const std::uint64_t hash = program.hash();

  std::swap(program.ops[3], program.ops[4]);

  EXPECT_NE(program.hash(), hash);
}

TEST(StepProgramHash, NoticesEveryFieldOfAnOp) {
  const StepProgram program = make_step_program(facts_of(false, 2, 1));
  const std::vector<std::function<void(Op&)>> changes = {[](Op& op) { op.kind = OpKind::norm; },
                                                         [](Op& op) { ++op.unit; }, [](Op& op) { ++op.stage; },
                                                         [](Op& op) { ++op.slot; }, [](Op& op) { ++op.group; }};
  for (const auto& change : changes) {
    StepProgram other = program;
    change(other.ops[4]);
    EXPECT_NE(other.hash(), program.hash());
  }
}

}  // namespace
}  // namespace spillway::plan
