// SPDX-License-Identifier: Apache-2.0
// What a run on a GPU says of its link and its memory.
#include <gtest/gtest.h>

#include "train/gpu_fixture.hpp"

namespace spillway::test {
namespace {

class GpuAccounting : public GpuTest {};

/// Moments that are not on the GPU pass over the link once each way in every step, copied or, from the ring of drives, reached into.
/// Batches and losses are little beside them.
TEST_F(GpuAccounting, TheLinksBytes_AreThoseOfTheStateThatIsNotOnTheGpu) {
  for (const train::TierChoice tier : {train::TierChoice::host, train::TierChoice::nvme}) {
    train::RunOptions options = training_options(folder_.path());
    options.offload.exp_avg = options.offload.exp_avg_sq = tier;
    options.offload.optimizer_on = train::OptimizerPlace::gpu;
    const auto communicator = comm::make_single_communicator();
    Trainee trainee(options, *communicator, {}, {}, {}, gpu_.get());
    trainee.run(2);
    trainee.engine().finish_update();
    const LinkBytes before = trainee.engine().link()->bytes();

    trainee.run(5);
    trainee.engine().finish_update();

    const LinkBytes after = trainee.engine().link()->bytes();
    const double moments = 5.0 * 2.0 * sizeof(float) * static_cast<double>(trainee.job().map->rank_elements());
    EXPECT_GE(static_cast<double>(after.up - before.up), moments);
    EXPECT_NEAR(static_cast<double>(after.up - before.up), moments, 0.05 * moments);
    EXPECT_GE(static_cast<double>(after.down - before.down), moments);
    EXPECT_NEAR(static_cast<double>(after.down - before.down), moments, 0.05 * moments);
  }
}

TEST_F(GpuAccounting, TheDriversBytes_HoldAtLeastWhatTheLedgerAllocates) {
  const auto communicator = comm::make_single_communicator();
  Trainee trainee(training_options(folder_.path()), *communicator, {}, {}, {}, gpu_.get());
  trainee.run(1);
  const std::optional<std::size_t> taken = trainee.engine().device_bytes_taken();
  if (!taken) GTEST_SKIP() << "the driver does not say how much memory is in use";

  const plan::Ledger& ledger = trainee.job().plan.ledger;

  EXPECT_GE(*taken, ledger.peak(plan::Tier::device) - ledger.bytes(plan::entry::kContext));
  EXPECT_LE(*taken, ledger.peak(plan::Tier::device) + (std::size_t{64} << 20));
}

}  // namespace
}  // namespace spillway::test
