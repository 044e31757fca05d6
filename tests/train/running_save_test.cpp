// SPDX-License-Identifier: Apache-2.0
// Saves beside training: what is written, what waits for what, and what a save that fails leaves.
#include "train/running_save.hpp"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <future>
#include <iterator>
#include <mutex>
#include <tuple>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "core/error.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "support/faulty_store.hpp"
#include "support/gated_store.hpp"
#include "support/scratch_directory.hpp"
#include "support/separate_device.hpp"
#include "support/thread_ranks.hpp"
#include "train/agreement.hpp"
#include "train/checkpoints.hpp"
#include "train/saved_run.hpp"

namespace spillway::test {
namespace {

namespace fs = std::filesystem;
using train::Saving;
using train::TierChoice;

std::unique_ptr<offload::BlockStore> plain_store() {
  return offload::make_posix_store({.queue_depth = 1, .direct = false});
}

/// What a device with memory of its own computes with, and the CPU beside it.
train::EngineSwitches kernels_beside_gpu() {
  const auto device = kernels::cpu::make_thread_pool(1), host = kernels::cpu::make_thread_pool(2);
  train::EngineSwitches switches;
  switches.kernels.emplace(train::KernelSet{.model = kernels::cpu::make_model_ops(device),
                                            .optimizer = kernels::cpu::make_optimizer_ops(device),
                                            .generation = kernels::cpu::make_generation_ops(device),
                                            .cpu_optimizer = kernels::cpu::make_optimizer_ops(host)});
  return switches;
}

class RunningSave : public ::testing::Test {
 protected:
  void SetUp() override {
    if (folder_.in_memory()) GTEST_SKIP() << "the working directory is a tmpfs, which offload refuses";
    write_training_folder(folder_.path());
  }

  std::string checkpoint() const { return saved_checkpoint(folder_.path()); }
  SavedRun run(int ranks, const Numerics& numerics, const Placement& placement, Saving saving) {
    return run_and_save(folder_.path(), ranks, numerics, placement, saving);
  }

  ScratchDirectory folder_;
};

TEST_F(RunningSave, BesideTraining_WritesTheBytesOfABlockingSave) {
  using train::Precision, train::StateFormat;
  for (const Numerics& numerics :
       {Numerics{.precision = Precision::bf16},
        {.state_format = StateFormat::int8},
        {.precision = Precision::bf16, .optimizer = train::OptimizerName::adafactor, .freeze_encoder = true}})
    for (const int ranks : {1, 2, 3}) {
      SCOPED_TRACE(testing::Message() << numerics << " on " << ranks << " ranks");
      const SavedRun expected = run(ranks, numerics, {.stage = 0}, Saving::blocking);
      ASSERT_EQ(expected.files.size(), static_cast<std::size_t>(ranks));
      const bool moments = numerics.optimizer == train::OptimizerName::adamw;
      std::vector<Placement> placements = {{.stage = 0},
                                           {.stage = 3, .weight = TierChoice::nvme},
                                           {.stage = 2,
                                            .exp_avg = moments ? TierChoice::nvme : TierChoice::device,
                                            .exp_avg_sq = moments ? TierChoice::host : TierChoice::device}};
      std::ranges::copy_if(test::placements(ranks), std::back_inserter(placements), [&](const Placement& placement) {
        return placement.spread != Spread::none && can_spread(numerics, placement.spread);
      });
      for (const Placement& placement : placements)
        for (const Saving saving : {Saving::whole, Saving::in_pieces})
          EXPECT_EQ(run(ranks, numerics, placement, saving), expected)
              << placement << (saving == Saving::whole ? ", whole" : ", in pieces");
    }
}

TEST_F(RunningSave, BesideADeviceWithMemoryOfItsOwn_WritesTheBytesOfABlockingSave) {
  using train::Precision;
  const Numerics numerics{.precision = Precision::bf16, .state_format = train::StateFormat::int8};
  const SavedRun expected = run(1, numerics, {.stage = 0}, Saving::blocking);
  const auto device = make_separate_device();
  std::vector<Placement> placements = placements_beside_gpu();
  for (const HostState state : kAllHostStates) placements.push_back({.stage = 0, .host = state});
  placements.push_back({.stage = 0, .exp_avg = TierChoice::nvme});
  for (const Placement& placement : placements)
    for (const Saving saving : {Saving::whole, Saving::in_pieces})
      EXPECT_EQ(run_and_save(folder_.path(), 1, numerics, placement, saving, device.get(), kernels_beside_gpu()),
                expected)
          << placement << (saving == Saving::whole ? ", whole" : ", in pieces");
}

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
