// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "support/mpi_main.hpp"
#include "support/scratch_directory.hpp"
#include "support/thread_ranks.hpp"
#include "train/same_bits_suite.hpp"

namespace spillway::test {
namespace {

TEST(SameBits, OverMpiAndOverThreads) {
  const auto device = make_host_device();
  const auto communicator = comm::make_mpi_communicator(environment(), *device);
  const bool root = communicator->rank() == 0;
  const std::unique_ptr<ScratchDirectory> made = root ? std::make_unique<ScratchDirectory>() : nullptr;
  if (root) write_training_folder(made->path());
  const std::string folder = comm::broadcast_text(*communicator, root ? made->path() : std::string(), 0);
  constexpr auto kNvme = train::TierChoice::nvme;
  Placement offloaded{.stage = 3,
                      .weight = kNvme,
                      .master = kNvme,
                      .exp_avg = kNvme,
                      .exp_avg_sq = kNvme,
                      .store = train::StoreChoice::memory};
  if (communicator->size() % 2 == 0) offloaded.nodes = 2;
  for (const Numerics& numerics :
       {Numerics{}, Numerics{.precision = train::Precision::bf16, .state_format = train::StateFormat::int8},
        Numerics{.precision = train::Precision::bf16, .optimizer = train::OptimizerName::adafactor}}) {
    SCOPED_TRACE(testing::PrintToString(numerics));

    const StateHashes over_mpi = train_placed(folder, numerics, offloaded, *communicator);
    const StateHashes replicated_over_mpi = train_placed(folder, numerics, {.stage = 0}, *communicator);

    EXPECT_EQ(replicated_over_mpi, over_mpi);
    if (root)
      run_on_thread_ranks(communicator->size(), [&](comm::Communicator& thread) {
        EXPECT_EQ(train_placed(folder, numerics, offloaded, thread), over_mpi) << "rank " << thread.rank();
      });
  }
  communicator->barrier();  // the folder is the root's
}

}  // namespace
}  // namespace spillway::test
