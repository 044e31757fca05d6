// SPDX-License-Identifier: Apache-2.0
// Saves beside training: what waits for what, and what a save that fails leaves.
#include "train/running_save.hpp"

#include <chrono>
#include <filesystem>
#include <future>
#include <mutex>
#include <tuple>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "core/error.hpp"
#include "support/faulty_store.hpp"
#include "support/gated_store.hpp"
#include "support/scratch_directory.hpp"
#include "support/thread_ranks.hpp"
#include "train/agreement.hpp"
#include "train/checkpoints.hpp"
#include "train/saved_run.hpp"

namespace spillway::test {
namespace {

namespace fs = std::filesystem;
using train::Saving;

std::unique_ptr<offload::BlockStore> plain_store() {
  return offload::make_posix_store({.queue_depth = 1, .direct = false});
}

class RunningSave : public ::testing::Test {
 protected:
  void SetUp() override {
    if (folder_.in_memory()) GTEST_SKIP() << "the working directory is a tmpfs, which offload refuses";
    write_training_folder(folder_.path());
  }

  std::string checkpoint() const { return saved_checkpoint(folder_.path()); }

  ScratchDirectory folder_;
};

/// One rank's run whose checkpoints go through a gate.
class GatedSave : public RunningSave {
 protected:
  void with_trainee(Saving saving, const std::function<void(Trainee&, train::Checkpoints&)>& body) {
    const auto communicator = comm::make_single_communicator();
    (void)train_placed(folder_.path(), {}, {}, *communicator, nullptr, {},
                       {.saving = saving, .run = [&](Trainee& trainee) {
                          train::Checkpoints checkpoints(trainee.engine(), *communicator,
                                                         std::make_unique<GatedStore>(plain_store(), gate_));
                          trainee.run(kSavedStep);
                          body(trainee, checkpoints);
                        }});
  }
  Gate gate_;
};

TEST_F(GatedSave, OfAWholeSnapshot_StopsNoStepHoweverSlowTheDriveIs) {
  gate_.close();
  with_trainee(Saving::whole, [&](Trainee& trainee, train::Checkpoints& checkpoints) {
    checkpoints.begin({.step = kSavedStep});

    trainee.run(kPlacedSteps - kSavedStep);
    trainee.engine().finish_update();

    EXPECT_TRUE(checkpoints.under_way());
    EXPECT_FALSE(checkpoints.ready());
    EXPECT_FALSE(fs::exists(checkpoint()));
    gate_.open();
    EXPECT_EQ(checkpoints.finish().folder, checkpoint());
  });
  expect_valid_checkpoint(checkpoint(), kSavedStep);
}

TEST_F(GatedSave, InPieces_StopsTheUpdateOfWhatWasNotCopied_AndNothingElse) {
  gate_.close();
  with_trainee(Saving::in_pieces, [&](Trainee& trainee, train::Checkpoints& checkpoints) {
    checkpoints.begin({.step = kSavedStep});

    trainee.run(1);  // its forward and backward pass, and the hand-over of its updates
    auto updated = std::async(std::launch::async, [&] { trainee.engine().finish_update(); });
    EXPECT_EQ(updated.wait_for(std::chrono::milliseconds(200)), std::future_status::timeout);
    EXPECT_FALSE(checkpoints.ready());
    gate_.open();
    updated.get();

    EXPECT_GT(trainee.engine().snapshot()->waited_seconds(), 0.1);
    trainee.run(kPlacedSteps - kSavedStep - 1);
    (void)checkpoints.finish();
  });
  expect_valid_checkpoint(checkpoint(), kSavedStep);
}

TEST_F(GatedSave, ThatIsGivenUp_LeavesWhatAKillLeaves_AndStopsNoStep) {
  gate_.close();
  with_trainee(Saving::in_pieces, [&](Trainee& trainee, train::Checkpoints& /*others*/) {
    const auto communicator = comm::make_single_communicator();
    auto abandoned = std::make_unique<train::Checkpoints>(trainee.engine(), *communicator,
                                                          std::make_unique<GatedStore>(plain_store(), gate_));
    abandoned->begin({.step = kSavedStep});

    auto gone = std::async(std::launch::async, [&] { abandoned.reset(); });  // waits for the write at the gate
    trainee.run(kPlacedSteps - kSavedStep);
    trainee.engine().finish_update();
    gate_.open();
    gone.get();
  });
  EXPECT_FALSE(fs::exists(checkpoint()));
  EXPECT_TRUE(fs::exists(checkpoint() + ".tmp"));
}

TEST_F(GatedSave, ThatIsSlow_LeavesTheOldOnesUntilItIsCommitted) {
  const auto saved = [&] {
    std::vector<int> steps;
    for (const int step : {1, 2, 3})
      if (fs::exists(folder_.file(fmt::format("out/checkpoints/step-{:09}", step)))) steps.push_back(step);
    return steps;
  };
  with_trainee(Saving::whole, [&](Trainee& trainee, train::Checkpoints& checkpoints) {
    for (const int step : {1, 2}) (void)checkpoints.save({.step = step});
    gate_.close();
    checkpoints.begin({.step = 3});

    trainee.run(kPlacedSteps - kSavedStep);

    EXPECT_THAT(saved(), testing::ElementsAre(1, 2));
    gate_.open();
    (void)checkpoints.finish();
    EXPECT_THAT(saved(), testing::ElementsAre(2, 3)) << "save_total_limit is 2";
  });
}

TEST_F(GatedSave, WhoseFolderVanishes_FailsAndTheNextMakesItAnew) {
  const std::string folder = folder_.file("out/checkpoints");
  with_trainee(Saving::whole, [&](Trainee& trainee, train::Checkpoints& checkpoints) {
    gate_.close();
    checkpoints.begin({.step = 1});
    fs::remove_all(folder);
    gate_.open();

    trainee.run(kPlacedSteps - kSavedStep);
    trainee.engine().finish_update();
    try {
      (void)checkpoints.finish();
      ADD_FAILURE() << "the save went well";
    } catch (const train::AgreedFailure& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::failure);
      EXPECT_THAT(error.what(),
                  testing::AllOf(testing::HasSubstr("step 1 was not saved: "), testing::HasSubstr(folder)));
    }
    EXPECT_EQ(checkpoints.save({.step = 2}), folder + "/step-000000002");
  });
  expect_valid_checkpoint(folder + "/step-000000002", 2);
}

/// A save whose last rank's drive fails while training goes on.
class FailingSave : public RunningSave, public testing::WithParamInterface<std::tuple<int, Saving>> {};

TEST_P(FailingSave, EndsEveryRankAtTheNextAgreement_AndLeavesTheCheckpointBefore) {
  const auto [ranks, saving] = GetParam();
  int failed = 0;
  std::mutex mutex;
  run_on_thread_ranks(ranks, [&](comm::Communicator& communicator) {
    const auto files = plain_store();
    auto store = std::make_unique<FaultyStore>(*files, Faults{});
    FaultyStore& drive = *store;
    const auto body = [&](Trainee& trainee) {
      train::Checkpoints checkpoints(trainee.engine(), communicator, std::move(store));
      trainee.run(1);
      (void)checkpoints.save({.step = 1});
      if (communicator.rank() + 1 == communicator.size())
        drive.set_faults({.failing_write = 2, .error_number = ENOSPC});
      checkpoints.begin({.step = 2});

      trainee.run(kPlacedSteps - 1);  // no update waits for a save that has failed
      trainee.engine().finish_update();
      try {
        (void)checkpoints.finish();
        ADD_FAILURE() << "the save went well";
      } catch (const train::AgreedFailure& error) {
        const std::scoped_lock lock(mutex);
        ++failed;
        EXPECT_EQ(error.exit_code(), ExitCode::failure);
        EXPECT_THAT(error.what(),
                    testing::HasSubstr(fmt::format("step 2 was not saved: rank {}: ", communicator.size() - 1)));
        EXPECT_THAT(error.what(), testing::HasSubstr("No space left on device"));
      }
      EXPECT_FALSE(checkpoints.under_way());
    };
    (void)train_placed(folder_.path(), {}, {}, communicator, nullptr, {}, {.saving = saving, .run = body});
  });

  EXPECT_EQ(failed, ranks);
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_.file("out/checkpoints")))
    names.push_back(entry.path().filename());
  EXPECT_THAT(names, testing::UnorderedElementsAre("LATEST", "step-000000001"));
  expect_valid_checkpoint(folder_.file("out/checkpoints/step-000000001"), 1);
}

INSTANTIATE_TEST_SUITE_P(Ranks, FailingSave,
                         testing::Combine(testing::Values(1, 2, 3), testing::Values(Saving::whole, Saving::in_pieces)));

}  // namespace
}  // namespace spillway::test
