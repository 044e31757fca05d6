// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "support/scratch_directory.hpp"
#include "support/thread_ranks.hpp"
#include "train/same_bits_suite.hpp"

namespace spillway::test {
namespace {

/// The hashes of every rank.
std::vector<StateHashes> trained_by(int ranks, const std::string& folder, const Numerics& numerics,
                                    const Placement& placement) {
  std::vector<StateHashes> hashes(static_cast<std::size_t>(ranks));
  run_on_thread_ranks(ranks, [&](comm::Communicator& communicator) {
    hashes[static_cast<std::size_t>(communicator.rank())] = train_placed(folder, numerics, placement, communicator);
  });
  return hashes;
}

void expect_same_bits(int ranks, const Numerics& numerics, const std::vector<Placement>& placed) {
  const ScratchDirectory folder;
  if (folder.in_memory()) GTEST_SKIP() << "the working directory is a tmpfs, which offload refuses";
  write_training_folder(folder.path());
  SCOPED_TRACE(testing::PrintToString(numerics));
  const StateHashes reference = trained_by(ranks, folder.path(), numerics, {.stage = 0})[0];
  for (const Placement& placement : placed) {
    if (!can_spread(numerics, placement.spread)) continue;
    SCOPED_TRACE(testing::PrintToString(placement));
    for (const StateHashes& hashes : trained_by(ranks, folder.path(), numerics, placement))
      EXPECT_EQ(hashes, reference);
  }
}

class SameBits : public ::testing::TestWithParam<int> {};

TEST_P(SameBits, WhateverStageTierStoreAndRecomputation) {
  for (const Numerics& numerics : all_numerics()) expect_same_bits(GetParam(), numerics, placements(GetParam()));
}

TEST(SameBitsOfTiers, EveryCombination) {
  expect_same_bits(2, {.precision = train::Precision::bf16, .state_format = train::StateFormat::int8},
                   every_combination_of_tiers());
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
