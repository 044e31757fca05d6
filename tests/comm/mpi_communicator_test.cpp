// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_communicator.hpp"

#include <chrono>
#include <ctime>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/communicator_suite.hpp"
#include "core/error.hpp"
#include "support/mpi_main.hpp"

namespace spillway::test {

std::vector<Backend> backends() {
  const auto over_mpi = [](comm::MpiOptions options) {
    return [options](const auto& body) {
      const auto device = make_host_device();
      body(*comm::make_mpi_communicator(environment(), *device, options));
    };
  };
  // The second one cuts the suite's small tensors into blocks and messages, as the first one cuts large ones.
  return {{"mpi", environment().size(), over_mpi({})},
          {"mpi_in_pieces", environment().size(), over_mpi({.block_bytes = 64, .message_bytes = 50})}};
}

namespace {

using testing::HasSubstr;

TEST(MpiEnvironment, KnowsTheRanksOfItsNode) {
  EXPECT_EQ(environment().local_size(), environment().size());  // these tests run on one node
  EXPECT_EQ(environment().local_rank(), environment().rank());
  EXPECT_EQ(environment().nodes().ranks(), environment().size());
  EXPECT_EQ(environment().nodes().nodes(), 1);
}

TEST(MpiCommunicator, ScratchBytes_AreABlockOfEveryOtherRanksPiece) {
  const comm::MpiOptions options{.block_bytes = 1024};

  EXPECT_EQ(comm::mpi_scratch_bytes(4096, 1, options), 0U);
  EXPECT_EQ(comm::mpi_scratch_bytes(4096, 4, options), 3U * 1024U);
  EXPECT_EQ(comm::mpi_scratch_bytes(512, 4, options), 3U * 512U);
}

TEST(MpiCommunicator, ReduceScatter_WithoutReservedScratchIsRefused) {
  if (environment().size() == 1) GTEST_SKIP() << "one rank needs no scratch";
  const auto device = make_host_device();
  const auto communicator = comm::make_mpi_communicator(environment(), *device);
  const auto size = static_cast<std::size_t>(communicator->size());
  std::vector<float> full(4096 * size), shard(4096);

  const auto reduce = [&] {
    communicator
        ->reduce_scatter({}, ConstTensorView(std::span<const float>(full), {static_cast<std::int64_t>(full.size())}),
                         TensorView(std::span<float>(shard), {4096}))
        .wait();
  };

  EXPECT_THROW(reduce(), Error);
  communicator->reserve(4096 * sizeof(float));
  EXPECT_NO_THROW(reduce());
}

TEST(MpiCommunicator, OptionsThatMpiCannotServeAreRefused) {
  const auto device = make_host_device();

  if (!environment().initialised()) GTEST_SKIP() << "no launcher started this process: it is a rank alone, without MPI";
  EXPECT_THROW(static_cast<void>(comm::make_mpi_communicator(environment(), *device, {.message_bytes = 0})), Error);
  EXPECT_THROW(
      static_cast<void>(comm::make_mpi_communicator(environment(), *device, {.message_bytes = std::size_t{1} << 31})),
      Error);
  EXPECT_THROW(static_cast<void>(comm::make_mpi_communicator(environment(), *device, {.block_bytes = 12})), Error);
}

/// The core belongs to the computing thread: while ranks wait for a late one, their processes are almost idle.
TEST(MpiCommunicator, WaitingForALateRankUsesLittleProcessorTime) {
  const auto device = make_host_device();
  const auto communicator = comm::make_mpi_communicator(environment(), *device);
  communicator->barrier();
  const auto processor_seconds = [] {
    timespec used{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
  };

  const double before = processor_seconds();
  if (communicator->rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(400));
  communicator->barrier();
  const double used = processor_seconds() - before;

  EXPECT_LT(used, 0.2);
}

}  // namespace
}  // namespace spillway::test
