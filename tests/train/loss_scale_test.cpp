// SPDX-License-Identifier: Apache-2.0
// Steps under a loss scale, in fp32: what a scale does to a step has nothing to do with fp16, which only a GPU has.
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "support/scratch_directory.hpp"
#include "support/thread_ranks.hpp"
#include "train/trainee.hpp"

namespace spillway::test {
namespace {

constexpr double kTooLarge = 1e40;  // over the tokens of a step still a float, but not in a sum

class LossScale : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { write_training_folder(folder_.path()); }
  ScratchDirectory folder_;
};

TEST_P(LossScale, APowerOfTwo_ChangesNoBit) {
  run_on_thread_ranks(GetParam(), [&](comm::Communicator& communicator) {
    Trainee plain(training_options(folder_.path()), communicator),
        scaled(training_options(folder_.path()), communicator);
    for (int i = 0; i < 3; ++i) (void)plain.step();

    for (int i = 0; i < 3; ++i) (void)scaled.step(1024.0);

    EXPECT_EQ(scaled.losses(), plain.losses());
    EXPECT_EQ(scaled.gradient_norms(), plain.gradient_norms());
    EXPECT_EQ(scaled.hashes(), plain.hashes());
  });
}

TEST_P(LossScale, AnOverflowBackward_UpdatesNothing_AndIsFirstInTheLastUnit) {
  run_on_thread_ranks(GetParam(), [&](comm::Communicator& communicator) {
    Trainee trainee(training_options(folder_.path()), communicator);
    (void)trainee.step();
    const StateHashes before = trainee.hashes();

    const train::StepResult result = trainee.step(kTooLarge);

    ASSERT_TRUE(result.overflow);
    EXPECT_FALSE(result.overflow->forward);
    EXPECT_EQ(result.overflow->unit, trainee.job().layout->units() - 1);
    EXPECT_EQ(trainee.hashes(), before);
    EXPECT_FALSE(trainee.step(1.0).overflow);
    EXPECT_NE(trainee.hashes(), before);
  });
}

TEST_P(LossScale, AnOverflowForward_IsFirstWhereTheStreamIsNotFinite) {
  run_on_thread_ranks(GetParam(), [&](comm::Communicator& communicator) {
    for (const bool host_residuals : {false, true}) {
      const auto replan = [&](train::Job& job) {
        if (!host_residuals) return;
        plan::Shape shape{.group_size = job.plan.program.group_size,
                          .first_kept_stage = static_cast<int>(job.stages.size())};
        shape.host_stages = plan::stages_again(job.facts, shape.first_kept_stage);
        job.plan = plan::plan_of(job.facts, plan::place(job.facts, job.budgets, shape));
        ASSERT_GT(job.plan.ledger.bytes(plan::entry::kHostResiduals), 0U);
      };
      Trainee trainee(training_options(folder_.path()), communicator, {}, replan);
      const int unit = trainee.job().layout->encoder_unit(1);
      const std::int64_t owned = trainee.job().zero.owned(unit).size();
      const std::vector<float> infinite(static_cast<std::size_t>(owned), std::numeric_limits<float>::infinity());
      trainee.engine().state().write("master", unit, {0, owned}, infinite);
      trainee.engine().weights_changed();

      const train::StepResult result = trainee.step(1.0);

      ASSERT_TRUE(result.overflow);
      EXPECT_TRUE(result.overflow->forward);
      EXPECT_EQ(result.overflow->unit, unit);
    }
  });
}

TEST_P(LossScale, WithoutAScale_AnOverflowEndsTheRun) {
  run_on_thread_ranks(GetParam(), [&](comm::Communicator& communicator) {
    Trainee trainee(training_options(folder_.path()), communicator);
    const int unit = trainee.job().layout->encoder_unit(1);
    const std::int64_t owned = trainee.job().zero.owned(unit).size();
    const std::vector<float> infinite(static_cast<std::size_t>(owned), std::numeric_limits<float>::infinity());
    trainee.engine().state().write("master", unit, {0, owned}, infinite);
    trainee.engine().weights_changed();

    EXPECT_THROW((void)trainee.step(), Error);
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, LossScale, ::testing::Values(1, 2));

}  // namespace
}  // namespace spillway::test
