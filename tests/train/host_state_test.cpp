// SPDX-License-Identifier: Apache-2.0
// State in host memory beside a GPU, which the host plays: what is streamed, and what passes the link, changes no bit.
#include <gtest/gtest.h>

#include "support/scratch_directory.hpp"
#include "train/same_bits_suite.hpp"

namespace spillway::test {
namespace {

class StateInHostMemory : public ::testing::TestWithParam<HostState> {
 protected:
  StateInHostMemory() { write_training_folder(folder_.path()); }
  ScratchDirectory folder_;
};

TEST_P(StateInHostMemory, GivesTheBitsOfAllInDeviceMemory) {
  const auto communicator = comm::make_single_communicator();
  for (const bool in_place : {false, true})
    for (Numerics numerics : all_numerics()) {
      numerics.one_batch = in_place && !numerics.two_groups;
      if (in_place && !numerics.one_batch) continue;
      SCOPED_TRACE(testing::Message() << numerics);
      const StateHashes expected = train_placed(folder_.path(), numerics, {.stage = 0}, *communicator);

      const Placement placed{.stage = 0, .store = train::StoreChoice::memory, .host = GetParam()};

      EXPECT_EQ(train_placed(folder_.path(), numerics, placed, *communicator), expected);
    }
}

TEST_P(StateInHostMemory, IsThereInTheLedger_AndIsUpdatedOverTheLink) {
  train::RunOptions options = training_options(folder_.path());
  options.train.precision = train::Precision::bf16;
  options.offload.store = train::StoreChoice::memory;
  const auto communicator = comm::make_single_communicator();
  const auto replan = [](train::Job& job) {
    move_to_host(job, GetParam(), {.group_size = job.plan.program.group_size});
  };

  Trainee trainee(options, *communicator, {}, replan);
  trainee.run(2);
  Trainee waiting(options, *communicator, {.wait_at_once = true}, replan);
  waiting.run(2);
  EXPECT_EQ(waiting.hashes(), trainee.hashes());

  const plan::Ledger& ledger = trainee.job().plan.ledger;
  const bool weights = GetParam() != HostState::gradients, gradients = GetParam() != HostState::weights;
  EXPECT_EQ(ledger.bytes("weight", plan::Tier::host) > 0, weights);
  EXPECT_EQ(ledger.bytes(plan::entry::kGathered) > 0, weights);
  EXPECT_EQ(ledger.bytes(plan::entry::kGrad, plan::Tier::host) > 0, gradients);
  EXPECT_EQ(ledger.bytes(plan::entry::kGradientsOut) > 0, gradients);
  EXPECT_GT(ledger.bytes(plan::entry::kLinkRing), 0U);
  EXPECT_EQ(trainee.engine().parameters().gathers() > 0, weights);
}

INSTANTIATE_TEST_SUITE_P(Kinds, StateInHostMemory, ::testing::ValuesIn(kAllHostStates));

}  // namespace
}  // namespace spillway::test
