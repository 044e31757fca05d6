// SPDX-License-Identifier: Apache-2.0
#include "train/consistency.hpp"

#include <gmock/gmock.h>

#include "kernels/cpu/cpu_kernels.hpp"
#include "support/scratch_directory.hpp"
#include "support/separate_device.hpp"
#include "support/thread_ranks.hpp"
#include "train/trainee.hpp"

namespace spillway::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using train::deviations;

TEST(Deviations, WhenAllHaveTheSame_AreNone) { EXPECT_EQ(deviations({{{"step", "1"}}, {{"step", "1"}}}), ""); }

TEST(Deviations, NameTheFewerRanks_AndWhatTheyHave) {
  EXPECT_EQ(
      deviations({{{"step", "2"}, {"seed", "1"}}, {{"step", "1"}, {"seed", "1"}}, {{"step", "1"}, {"seed", "1"}}}),
      "\n  step: rank 0 has 2; ranks 1, 2 have 1");
}

TEST(Deviations, OfAsManyRanks_NameThoseWithoutTheLowest) {
  EXPECT_EQ(deviations({{{"step", "2"}}, {{"step", "1"}}}), "\n  step: rank 1 has 1; rank 0 has 2");
}

TEST(Deviations, OfManyHoldings_AreCutShort) {
  train::Holdings one, other;
  for (int i = 10; i < 30; ++i) one[std::to_string(i)] = "a", other[std::to_string(i)] = "b";

  EXPECT_THAT(deviations({one, other}),
              AllOf(HasSubstr("\n  17: "), Not(HasSubstr("\n  18: ")), HasSubstr("and 12 more")));
}

struct Layout {
  int ranks, stage, nodes;
};

std::ostream& operator<<(std::ostream& out, const Layout& layout) {
  return out << layout.ranks << " ranks on " << layout.nodes << " nodes, stage " << layout.stage;
}

/// Changes something on one rank; called on all.
using Damage = std::function<void(Trainee&, train::RunState&, bool here)>;

/// What a device with memory of its own computes with, and the CPU beside it.
train::EngineSwitches kernels_beside_gpu() {
  const auto device = kernels::cpu::make_thread_pool(1), host = kernels::cpu::make_thread_pool(1);
  train::EngineSwitches switches;
  switches.kernels.emplace(train::KernelSet{.model = kernels::cpu::make_model_ops(device),
                                            .optimizer = kernels::cpu::make_optimizer_ops(device),
                                            .generation = kernels::cpu::make_generation_ops(device),
                                            .cpu_optimizer = kernels::cpu::make_optimizer_ops(host)});
  return switches;
}

void flip_a_bit(Trainee& trainee, train::RunState&, bool here) {
  train::Parameters& parameters = trainee.engine().parameters();
  parameters.acquire(1);  // nothing was updated since they were gathered
  if (here) const_cast<std::byte*>(parameters.weights(1).data())[5] ^= std::byte{1};
  parameters.release(1);
}

class Consistency : public ::testing::TestWithParam<Layout> {
 protected:
  void SetUp() override { write_training_folder(folder_.path()); }

  [[nodiscard]] train::RunOptions options() const {
    train::RunOptions options = training_options(folder_.path());
    options.zero.stage = GetParam().stage;
    if (GetParam().nodes > 1) options.zero.shard_group = train::ShardGroup::node;
    return options;
  }

  /// Two steps, a check, `damage` on the last rank, another check. \return its message; all ranks must have the same
  [[nodiscard]] std::string message_after(const train::RunOptions& options, const Damage& damage,
                                          bool separate_device = false) const {
    const auto [ranks, stage, nodes] = GetParam();
    std::vector<std::string> messages(static_cast<std::size_t>(ranks));
    run_on_thread_ranks(ranks, [&, ranks = ranks, nodes = nodes](comm::Communicator& communicator) {
      const auto device = make_separate_device();
      Trainee trainee(options, communicator, separate_device ? kernels_beside_gpu() : train::EngineSwitches(), {},
                      comm::NodeLayout::filled(nodes, ranks / nodes), separate_device ? device.get() : nullptr);
      train::ConsistencyCheck check(trainee.engine(), communicator, 0);
      train::RunState state;
      trainee.run(2);
      state.step = 2;
      trainee.engine().finish_update();
      check.run(state);
      if (damage) damage(trainee, state, communicator.rank() == ranks - 1);
      try {
        check.run(state);
      } catch (const train::Inconsistency& error) {
        EXPECT_EQ(error.exit_code(), ExitCode::failure);
        messages[static_cast<std::size_t>(communicator.rank())] = error.what();
      }
      if (!damage) trainee.run(1);  // goes on
    });
    for (const std::string& message : messages) EXPECT_EQ(message, messages[0]);
    return messages[0];
  }

  ScratchDirectory folder_;
};

TEST_P(Consistency, OfAHealthyRun_IsFound) {
  for (const bool separate : {false, true}) {
    for (const train::Precision precision : {train::Precision::fp32, train::Precision::bf16}) {
      train::RunOptions asked = options();
      asked.train.precision = precision;
      asked.optimizer.name =
          precision == train::Precision::fp32 ? train::OptimizerName::adafactor : train::OptimizerName::adamw;

      EXPECT_EQ(message_after(asked, nullptr, separate), "");
    }
  }
}

TEST_P(Consistency, OfOneBitOfARanksWeights_IsMissed) {
  const std::string last = std::to_string(GetParam().ranks - 1);

  for (const bool separate : {false, true})
    EXPECT_THAT(message_after(options(), flip_a_bit, separate),
                AllOf(HasSubstr("step 2: the ranks no longer have the same"), HasSubstr("last did at step 2"),
                      HasSubstr("\n  weights of encoder."), HasSubstr(": rank " + last + " has ")));
}

TEST_P(Consistency, OfAdafactorsMeans_IsMissed) {
  train::RunOptions asked = options();
  asked.optimizer.name = train::OptimizerName::adafactor;

  const std::string message = message_after(asked, [](Trainee& trainee, train::RunState&, bool here) {
    if (here) trainee.job().adafactor->values("exp_avg_sq_row")[0] += 1.0F;
  });

  EXPECT_THAT(message, HasSubstr("\n  exp_avg_sq_row: rank " + std::to_string(GetParam().ranks - 1) + " has "));
}

TEST_P(Consistency, OfThePlaceInTheRun_IsMissed) {
  const std::string message = message_after(options(), [](Trainee&, train::RunState& state, bool here) {
    if (here) state.cursor.position = 8;
  });

  EXPECT_THAT(message, AllOf(HasSubstr("\n  place in the data: rank "), HasSubstr("epoch 0, sample 8"),
                             Not(HasSubstr("weights"))));
}

INSTANTIATE_TEST_SUITE_P(Layouts, Consistency,
                         ::testing::Values(Layout{2, 0, 1}, Layout{2, 2, 1}, Layout{3, 0, 1}, Layout{3, 1, 1}));

/// Groups of stage 3 have copies of one another's shards.
class ConsistencyOfGroups : public Consistency {};

TEST_P(ConsistencyOfGroups, InTheirShards_IsMissed) {
  const std::string message = message_after(options(), [](Trainee& trainee, train::RunState&, bool here) {
    std::vector<float> values(1);
    trainee.engine().state().read("master", 1, {0, 1}, values);
    if (here) values[0] += 1.0F;
    trainee.engine().state().write("master", 1, {0, 1}, values);
    trainee.engine().weights_changed();
  });

  EXPECT_THAT(message, AllOf(HasSubstr("\n  weights of encoder."), HasSubstr("ranks 2, 3 have ")));
}

TEST_P(ConsistencyOfGroups, OfAHealthyRun_IsFound) { EXPECT_EQ(message_after(options(), nullptr), ""); }

INSTANTIATE_TEST_SUITE_P(Layouts, ConsistencyOfGroups, ::testing::Values(Layout{4, 3, 2}));

}  // namespace
}  // namespace spillway::test
