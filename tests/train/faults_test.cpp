// SPDX-License-Identifier: Apache-2.0
#include <atomic>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "checkpoint/reader.hpp"
#include "core/error.hpp"
#include "support/faulty_store.hpp"
#include "support/scratch_directory.hpp"
#include "support/thread_ranks.hpp"
#include "train/bulk_files.hpp"
#include "train/checkpoints.hpp"
#include "train/trainee.hpp"

namespace spillway::test {
namespace {

/// A step of a run whose last rank's drive fails. What this comes to, and that no rank hangs, must not depend on the rank count.
class Faults : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { write_training_folder(folder_.path()); }

  /// Two good steps, a checkpoint, then steps with `faults` on the last rank, of which one must fail on every rank.
  /// \return what the last rank threw
  std::string message_of(const test::Faults& faults) {
    const int ranks = GetParam();
    std::atomic<int> failed = 0;
    try {
      run_on_thread_ranks(ranks, [&](comm::Communicator& communicator) {
        const auto memory = offload::make_memory_store();
        auto store = std::make_unique<FaultyStore>(*memory, test::Faults{});
        FaultyStore& drive = *store;
        train::RunOptions options = training_options(folder_.path());
        options.offload.exp_avg = options.offload.exp_avg_sq = train::TierChoice::nvme;
        options.offload.weight = weight_;
        Trainee trainee(options, communicator, {.store = std::move(store)});
        trainee.run(2);
        train::Checkpoints checkpoints(trainee.engine(), communicator);
        const std::string folder = checkpoints.save({.step = 2});
        if (communicator.rank() == 0) checkpoint_ = folder;
        if (communicator.rank() + 1 == ranks) drive.set_faults(faults);
        try {
          trainee.run(2);
          trainee.engine().finish_update();
        } catch (const Error&) {
          ++failed;
          throw;
        }
      });
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::failure);
      EXPECT_EQ(failed, ranks);
      return error.what();
    }
    ADD_FAILURE() << "the run went on as if nothing had happened";
    return {};
  }

  void expect_checkpoint_intact() const {
    const auto store = offload::make_posix_store({.queue_depth = 1, .direct = false});
    train::BulkFiles bulk(*store);
    checkpoint::CheckpointReader reader(checkpoint_);
    EXPECT_EQ(reader.step(), 2);
    EXPECT_TRUE(reader.verify(bulk).empty());
  }

  ScratchDirectory folder_;
  std::string checkpoint_;
  train::TierChoice weight_ = train::TierChoice::device;
};

TEST_P(Faults, AFullDrive_EndsEveryRankAndNamesUnitExtentAndFile) {
  const std::string message = message_of({.failing_write = 7, .error_number = ENOSPC});

  EXPECT_NE(message.find("No space left on device"), std::string::npos) << message;
  EXPECT_NE(message.find("optimizer step 3, update of unit "), std::string::npos) << message;
  EXPECT_NE(message.find("extent 3, exp_avg_sq, file "), std::string::npos) << message;
  EXPECT_NE(message.find("/extents-0"), std::string::npos) << message;
  expect_checkpoint_intact();
}

TEST_P(Faults, ADriveThatCannotBeRead_EndsEveryRankAndNamesUnitExtentAndFile) {
  const std::string message = message_of({.failing_read = 4, .error_number = EIO});

  EXPECT_NE(message.find("Input/output error"), std::string::npos) << message;
  EXPECT_NE(message.find("optimizer step 3, update of unit "), std::string::npos) << message;
  EXPECT_NE(message.find("extent 2, exp_avg, file "), std::string::npos) << message;
  expect_checkpoint_intact();
}

TEST_P(Faults, WeightsThatCannotBeRead_EndEveryRankAndNameUnitExtentAndFile) {
  weight_ = train::TierChoice::nvme;

  const std::string message = message_of({.failing_read = 4, .error_number = EIO});

  EXPECT_NE(message.find("Input/output error"), std::string::npos) << message;
  EXPECT_NE(message.find("optimizer step 3, weights of unit "), std::string::npos) << message;
  EXPECT_NE(message.find(", weight, file "), std::string::npos) << message;
  expect_checkpoint_intact();
}

TEST_P(Faults, AFlippedBit_EndsEveryRankAndNamesExtentAndChecksums) {
  const std::string message = message_of({.corrupted_read = 3, .corrupted_byte = 100});

  EXPECT_NE(message.find("extent 1, exp_avg_sq, file "), std::string::npos) << message;
  EXPECT_NE(message.find("what was read is not what was written: checksum "), std::string::npos) << message;
  expect_checkpoint_intact();
}

/// Steps on a drive of which one transfer in a thousand or two fails, stalls, is cut short or carries a wrong bit.
class RandomFaults : public ::testing::Test {
 protected:
  void SetUp() override { write_training_folder(folder_.path()); }

  /// Hashes after a few steps. \param rate  0: a good drive
  StateHashes train(double rate, std::uint64_t seed, train::TierChoice weight) {
    const auto communicator = comm::make_single_communicator();
    const auto memory = offload::make_memory_store();
    auto store = std::make_unique<FaultyStore>(*memory, test::Faults{});
    FaultyStore& drive = *store;
    train::RunOptions options = training_options(folder_.path());
    options.offload.exp_avg = options.offload.exp_avg_sq = options.offload.master = options.offload.weight = weight;
    if (weight == train::TierChoice::device)
      options.offload.exp_avg = options.offload.exp_avg_sq = train::TierChoice::nvme;
    Trainee trainee(options, *communicator, {.store = std::move(store)});
    drive.set_faults({.error_number = EIO, .random_rate = rate, .random_seed = seed});
    trainee.run(3);
    return trainee.hashes();
  }

  ScratchDirectory folder_;
};

TEST_F(RandomFaults, EndWithAnErrorThatNamesExtentAndFile_OrChangeNothing) {
  constexpr std::uint64_t kSeeds = 80;
  // With weights on the drive there are more transfers.
  for (const auto& [weight, rate] :
       {std::pair{train::TierChoice::device, 0.001}, std::pair{train::TierChoice::nvme, 0.0005}}) {
    const StateHashes good = train(0.0, 0, weight);
    int failed = 0, unchanged = 0;
    for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
      try {
        EXPECT_EQ(train(rate, seed, weight), good) << "seed " << seed << ": other numbers, and no error";
        ++unchanged;
      } catch (const Error& error) {
        ++failed;
        const std::string message = error.what();
        EXPECT_NE(message.find("extent "), std::string::npos) << "seed " << seed << ": " << message;
        EXPECT_NE(message.find("/extents-0"), std::string::npos) << "seed " << seed << ": " << message;
      }
    }
    // Neither outcome may be the only one, or this shows nothing.
    EXPECT_GT(failed, static_cast<int>(kSeeds / 10));
    EXPECT_GT(unchanged, static_cast<int>(kSeeds / 10));
    std::cout << fmt::format("of {} runs {} ended with an error, {} as on a good drive\n", kSeeds, failed, unchanged);
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, Faults, ::testing::Values(1, 2, 3));

}  // namespace
}  // namespace spillway::test
