// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include <gtest/gtest.h>

#include "support/scratch_directory.hpp"
#include "support/thread_ranks.hpp"
#include "train/trainee.hpp"

namespace spillway::test {
namespace {

constexpr int kSteps = 5;

/// What every rank of a run must come to, however its samples are cut.
struct Curve {
  std::vector<double> losses, gradient_norms;
  int groups = 0, group_size = 0, micro_batches = 0;
};

Curve curve_of(const train::RunOptions& options, int ranks, const std::function<void(train::Job&)>& replan = {}) {
  Curve curve;
  run_on_thread_ranks(ranks, [&](comm::Communicator& communicator) {
    Trainee trainee(options, communicator, {}, replan);
    trainee.run(kSteps);
    if (communicator.rank() == 0)
      curve = {trainee.losses(), trainee.gradient_norms(), trainee.job().plan.program.groups,
               trainee.job().plan.program.group_size, trainee.job().micro_batches};
  });
  return curve;
}

void expect_same(const Curve& found, const Curve& expected, double relative) {
  for (std::size_t step = 0; step < expected.losses.size(); ++step) {
    EXPECT_NEAR(found.losses[step], expected.losses[step], relative * expected.losses[step]) << "step " << step;
    EXPECT_NEAR(found.gradient_norms[step], expected.gradient_norms[step], relative * expected.gradient_norms[step])
        << "step " << step;
  }
}

/// The plan under a budget of host memory in which groups of `size` micro-batches just fit.
void plan_for_groups_of(int size, train::Job& job) {
  plan::Budgets budgets{.device = std::nullopt, .host = std::size_t{1} << 40, .host_source = "the test"};
  plan::JobFacts facts = job.facts;
  facts.program.group_size = size;
  const plan::Plan fitting = plan::make_plan(facts, budgets);
  budgets.host = fitting.ledger.peak(plan::Tier::device) + fitting.ledger.peak(plan::Tier::host);
  job.plan = plan::make_plan(job.facts, budgets);
}

class Groups : public ::testing::TestWithParam<int> {
 protected:
  // Texts so long that a micro-batch takes more memory than the sums of several groups.
  void SetUp() override { write_training_folder(folder_.path(), {}, 37, 16); }
  ScratchDirectory folder_;
};

TEST_P(Groups, WhenMemoryIsShort_AreSmallerAndGiveTheSameWithinRounding) {
  for (const int stage : {0, 3}) {
    SCOPED_TRACE(stage);
    train::RunOptions options = training_options(folder_.path());
    options.zero.stage = stage;
    options.train.per_device_train_batch_size = 1;
    const Curve whole = curve_of(options, GetParam());
    ASSERT_EQ(whole.groups, 1);

    // A group of all but one leaves a last group that is not full; the least group is a single micro-batch.
    const Curve uneven =
        curve_of(options, GetParam(), [](train::Job& job) { plan_for_groups_of(job.micro_batches - 1, job); });
    const Curve single = curve_of(options, GetParam(), [](train::Job& job) { plan_for_groups_of(1, job); });

    EXPECT_EQ(uneven.groups, 2);
    EXPECT_EQ(uneven.group_size, whole.micro_batches - 1);
    EXPECT_EQ(single.group_size, 1);
    EXPECT_EQ(single.groups, whole.micro_batches);
    expect_same(uneven, whole, 1e-5);
    expect_same(single, whole, 1e-5);
  }
}

TEST_P(Groups, SplitsIntoMicroBatches_GiveTheTokenMeanOfTheGlobalBatch) {
  train::RunOptions options = training_options(folder_.path());
  options.train.per_device_train_batch_size = 8;
  const Curve unsplit = curve_of(options, 1);
  ASSERT_EQ(unsplit.micro_batches, 1);

  for (const int per_device : {1, 2, 3}) {
    SCOPED_TRACE(per_device);
    options.train.per_device_train_batch_size = per_device;
    const Curve split = curve_of(options, GetParam());

    EXPECT_EQ(split.micro_batches, (8 + per_device * GetParam() - 1) / (per_device * GetParam()));
    expect_same(split, unsplit, 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, Groups, ::testing::Values(1, 2, 3));

}  // namespace
}  // namespace spillway::test
