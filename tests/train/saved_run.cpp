// SPDX-License-Identifier: Apache-2.0
#include "train/saved_run.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "checkpoint/reader.hpp"
#include "support/thread_ranks.hpp"
#include "train/bulk_files.hpp"
#include "train/checkpoints.hpp"
#include "train/run_results.hpp"

namespace spillway::test {
namespace {

namespace fs = std::filesystem;
using train::Saving;

std::map<std::string, std::string> rank_files_of(const std::string& checkpoint) {
  std::map<std::string, std::string> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(checkpoint)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("rank-")) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    files[name] = {std::istreambuf_iterator<char>(file), {}};
  }
  return files;
}

}  // namespace

std::string saved_checkpoint(const std::string& folder) {
  return fmt::format("{}/out/checkpoints/step-{:09}", folder, kSavedStep);
}

SavedRun run_and_save(const std::string& folder, int ranks, const Numerics& numerics, const Placement& placement,
                      Saving saving, Device* gpu, train::EngineSwitches switches) {
  fs::remove_all(folder + "/out");
  SavedRun result;
  run_on_thread_ranks(ranks, [&](comm::Communicator& communicator) {
    const auto run = [&](Trainee& trainee) {
      train::Checkpoints checkpoints(trainee.engine(), communicator);
      EXPECT_EQ(checkpoints.beside_training(), saving != Saving::blocking);
      trainee.run(kSavedStep);
      checkpoints.begin({.step = kSavedStep});
      if (saving == Saving::blocking) (void)checkpoints.finish();
      trainee.run(kPlacedSteps - kSavedStep);
      if (saving != Saving::blocking) (void)checkpoints.finish();
    };
    const StateHashes hashes =
        train_placed(folder, numerics, placement, communicator, gpu,
                     ranks == 1 ? std::move(switches) : train::EngineSwitches{}, {.saving = saving, .run = run});
    if (communicator.rank() == 0) result.state = hashes;
  });
  result.files = rank_files_of(saved_checkpoint(folder));
  result.tensors = hashes_of(saved_checkpoint(folder));
  expect_valid_checkpoint(saved_checkpoint(folder), kSavedStep);
  return result;
}

void expect_valid_checkpoint(const std::string& checkpoint, int step) {
  const auto store = offload::make_posix_store({.queue_depth = 1, .direct = false});
  train::BulkFiles bulk(*store);
  checkpoint::CheckpointReader reader(checkpoint);
  EXPECT_EQ(reader.step(), step);
  EXPECT_TRUE(reader.verify(bulk).empty());
}

}  // namespace spillway::test
