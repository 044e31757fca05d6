// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "support/scratch_directory.hpp"
#include "support/thread_ranks.hpp"
#include "train/same_bits_suite.hpp"

namespace spillway::test {
namespace {

class SameBits : public ::testing::TestWithParam<int> {};

TEST_P(SameBits, WhateverStageTierStoreAndRecomputation) {
  const ScratchDirectory folder;
  if (folder.in_memory()) GTEST_SKIP() << "the working directory is a tmpfs, which offload refuses";
  write_training_folder(folder.path());
  for (const Numerics& numerics : all_numerics()) {
    SCOPED_TRACE(testing::PrintToString(numerics));
    std::vector<StateHashes> reference(static_cast<std::size_t>(GetParam()));
    run_on_thread_ranks(GetParam(), [&](comm::Communicator& communicator) {
      reference[static_cast<std::size_t>(communicator.rank())] =
          train_placed(folder.path(), numerics, {.stage = 0}, communicator);
    });

    for (const Placement& placement : placements(GetParam())) {
      SCOPED_TRACE(testing::PrintToString(placement));
      std::vector<StateHashes> hashes(reference.size());
      run_on_thread_ranks(GetParam(), [&](comm::Communicator& communicator) {
        hashes[static_cast<std::size_t>(communicator.rank())] =
            train_placed(folder.path(), numerics, placement, communicator);
      });

      for (std::size_t rank = 0; rank < hashes.size(); ++rank) EXPECT_EQ(hashes[rank], reference[0]) << "rank " << rank;
    }
  }
}

TEST_P(SameBits, AreOthersForAnotherSeed) {
  const ScratchDirectory folder;
  write_training_folder(folder.path());
  std::vector<StateHashes> hashes;

  for (const std::uint64_t seed : {42, 43})
    run_on_thread_ranks(GetParam(), [&](comm::Communicator& communicator) {
      train::RunOptions options = training_options(folder.path());
      options.train.seed = seed;
      Trainee trainee(options, communicator);
      trainee.run(1);
      const StateHashes mine = trainee.hashes();
      if (communicator.rank() == 0) hashes.push_back(mine);
    });

  for (const auto& [kind, hash] : hashes[0]) EXPECT_NE(hash, hashes[1].at(kind)) << kind;
}

INSTANTIATE_TEST_SUITE_P(Ranks, SameBits, ::testing::Values(1, 2, 3, 4));

}  // namespace
}  // namespace spillway::test
