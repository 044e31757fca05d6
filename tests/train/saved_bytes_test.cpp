// SPDX-License-Identifier: Apache-2.0
// What a save beside training writes, wherever the state is: the bytes of a save that training waits for.
#include <algorithm>
#include <iterator>
#include <tuple>

#include <gtest/gtest.h>

#include "support/scratch_directory.hpp"
#include "support/separate_device.hpp"
#include "train/saved_run.hpp"

namespace spillway::test {
namespace {

using train::Saving;
using train::TierChoice;

class SavedBytes : public ::testing::Test {
 protected:
  void SetUp() override {
    if (folder_.in_memory()) GTEST_SKIP() << "the working directory is a tmpfs, which offload refuses";
    write_training_folder(folder_.path());
  }

  ScratchDirectory folder_;
};

Numerics numerics_of(int number) {
  using train::Precision, train::StateFormat;
  const Numerics all[] = {
      {.precision = Precision::bf16},
      {.state_format = StateFormat::int8},
      {.precision = Precision::bf16, .optimizer = train::OptimizerName::adafactor, .freeze_encoder = true}};
  return all[number];
}

/// Numerics by number, ranks, and how it saves.
class BesideTraining : public SavedBytes, public testing::WithParamInterface<std::tuple<int, int, Saving>> {};

TEST_P(BesideTraining, AreThoseOfABlockingSave) {
  const auto [number, ranks, saving] = GetParam();
  const Numerics numerics = numerics_of(number);
  const bool moments = numerics.optimizer == train::OptimizerName::adamw;
  std::vector<Placement> placements = {{.stage = 0},
                                       {.stage = 3, .weight = TierChoice::nvme},
                                       {.stage = 2,
                                        .exp_avg = moments ? TierChoice::nvme : TierChoice::device,
                                        .exp_avg_sq = moments ? TierChoice::host : TierChoice::device}};
  std::ranges::copy_if(test::placements(ranks), std::back_inserter(placements), [&](const Placement& placement) {
    return placement.spread != Spread::none && can_spread(numerics, placement.spread);
  });

  const SavedRun expected = run_and_save(folder_.path(), ranks, numerics, {.stage = 0}, Saving::blocking);
  ASSERT_EQ(expected.files.size(), static_cast<std::size_t>(ranks));
  for (const Placement& placement : placements)
    EXPECT_TRUE(run_and_save(folder_.path(), ranks, numerics, placement, saving) == expected) << placement;
}

INSTANTIATE_TEST_SUITE_P(Runs, BesideTraining,
                         testing::Combine(testing::Range(0, 3), testing::Values(1, 2, 3),
                                          testing::Values(Saving::whole, Saving::in_pieces)));

constexpr int kParts = 3;

/// A part of the placements, and how it saves.
class BesideADevice : public SavedBytes, public testing::WithParamInterface<std::tuple<int, Saving>> {};

TEST_P(BesideADevice, WithMemoryOfItsOwn_AreThoseOfABlockingSave) {
  const auto [part, saving] = GetParam();
  const Numerics numerics{.precision = train::Precision::bf16, .state_format = train::StateFormat::int8};
  const auto device = make_separate_device();
  std::vector<Placement> placements = placements_beside_gpu();
  for (const HostState state : kAllHostStates) placements.push_back({.stage = 0, .host = state});
  placements.push_back({.stage = 0, .exp_avg = TierChoice::nvme});

  const SavedRun expected = run_and_save(folder_.path(), 1, numerics, {.stage = 0}, Saving::blocking);
  for (std::size_t i = static_cast<std::size_t>(part); i < placements.size(); i += kParts)
    EXPECT_TRUE(run_and_save(folder_.path(), 1, numerics, placements[i], saving, device.get(), kernels_beside_gpu()) ==
                expected)
        << placements[i];
}

INSTANTIATE_TEST_SUITE_P(Runs, BesideADevice,
                         testing::Combine(testing::Range(0, kParts),
                                          testing::Values(Saving::whole, Saving::in_pieces)));

}  // namespace
}  // namespace spillway::test
