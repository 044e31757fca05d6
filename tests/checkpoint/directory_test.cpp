// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/directory.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <iterator>

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/fixtures.hpp"
#include "checkpoint/layout.hpp"
#include "checkpoint/reader.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::int64_t> steps_in(const std::string& root) {
  std::vector<std::int64_t> steps;
  for (const CheckpointEntry& entry : list(root)) steps.push_back(entry.step);
  return steps;
}

std::int64_t latest_step(const std::string& root) {
  const auto entry = latest(root);
  return entry ? entry->step : -1;
}

TEST(Directory, AnAbsentOrEmptyRootHasNoCheckpoint) {
  const ScratchFolder root;

  EXPECT_THAT(list(root / "absent"), IsEmpty());
  EXPECT_EQ(latest(root.path()), std::nullopt);
}

TEST(Directory, ARootThatCannotBeReadIsNotTakenForAnEmptyOne) {
  const ScratchFolder root;
  fs::create_symlink("loop", root / "loop");

  EXPECT_THAT(message_of<IoError>([&] { (void)latest(root / "loop"); }), HasSubstr("listing the checkpoints failed"));
}

TEST(Directory, ListsInTheOrderOfCommitNotOfSteps) {
  const ScratchFolder root;
  for (const std::int64_t step : {100, 200, 150}) save(root.path(), step, small_tensors(), 1);

  EXPECT_THAT(steps_in(root.path()), ElementsAre(100, 200, 150));
  EXPECT_EQ(latest_step(root.path()), 150);
  EXPECT_EQ(read_text(root / "LATEST"), "step-000000150\n");
}

TEST(Directory, AFolderBeingWrittenIsIgnoredAndTheNextSaveCleansItUp) {
  const ScratchFolder root;
  save(root.path(), 1, small_tensors(), 1);
  const std::string killed = prepare_folder(root.path(), 2);
  fs::copy_file(root / "step-000000001/manifest.json", killed + "/manifest.json");

  EXPECT_THAT(steps_in(root.path()), ElementsAre(1));
  save(root.path(), 3, small_tensors(), 1);
  EXPECT_THAT(names_in(root.path()), ElementsAre("LATEST", "step-000000001", "step-000000003"));
}

TEST(Directory, AKillBetweenCommitAndLatestLosesNothing) {
  const ScratchFolder root;
  save(root.path(), 1, small_tensors(), 1);
  save(root.path(), 2, small_tensors(), 1);
  write_text_durably(root / "LATEST", "step-000000001\n");

  EXPECT_EQ(latest_step(root.path()), 2);
}

TEST(Directory, ABrokenLatestIsNoObstacle) {
  const ScratchFolder root;
  save(root.path(), 1, small_tensors(), 1);
  for (const char* text : {"", "step-000000077\n", "../..\n"}) {
    write_text_durably(root / "LATEST", text);
    EXPECT_EQ(latest_step(root.path()), 1) << text;
  }
  fs::remove(root / "LATEST");
  EXPECT_EQ(latest_step(root.path()), 1);
}

TEST(Directory, AFolderWhoseManifestIsMissingOrDamagedIsLeftOut) {
  const ScratchFolder root;
  for (const std::int64_t step : {1, 2, 3}) save(root.path(), step, small_tensors(), 1);

  flip_byte(root / "step-000000003/manifest.json", 100);
  fs::remove(root / "step-000000002/manifest.json");

  EXPECT_THAT(steps_in(root.path()), ElementsAre(1));
}

TEST(Directory, ACheckpointOfTheSameStepIsReplaced) {
  const ScratchFolder root;
  save(root.path(), 1, small_tensors(), 1);

  save(root.path(), 1, small_tensors(), 2);

  EXPECT_EQ(latest(root.path())->world_size, 2);
  EXPECT_EQ(latest(root.path())->sequence, 2);
  EXPECT_THAT(names_in(root.path()), ElementsAre("LATEST", "step-000000001"));
}

TEST(Directory, ACheckpointMovedAsideForItsReplacementStillCountsUntilThatIsThere) {
  const ScratchFolder root;
  save(root.path(), 1, small_tensors(), 1);
  fs::rename(root / "step-000000001", root / "step-000000001.old");

  EXPECT_EQ(latest_step(root.path()), 1);
  save(root.path(), 2, small_tensors(), 1);
  EXPECT_THAT(steps_in(root.path()), ElementsAre(1, 2));
  save(root.path(), 1, small_tensors(), 1);
  EXPECT_THAT(names_in(root.path()), ElementsAre("LATEST", "step-000000001", "step-000000002"));
}

TEST(Directory, Prune_KeepsTheNewestAndTheProtected) {
  const ScratchFolder root;
  for (const std::int64_t step : {1, 2, 3, 4, 5}) save(root.path(), step, small_tensors(), 1);

  const auto removed = prune(root.path(), 2, {2});

  EXPECT_THAT(removed, ElementsAre(root / "step-000000001", root / "step-000000003"));
  EXPECT_THAT(names_in(root.path()), ElementsAre("LATEST", "step-000000002", "step-000000004", "step-000000005"));
}

TEST(Directory, Prune_NeverRemovesTheNewestAndZeroKeepsAll) {
  const ScratchFolder root;
  for (const std::int64_t step : {9, 1}) save(root.path(), step, small_tensors(), 1);

  EXPECT_THAT(prune(root.path(), 0, {}), IsEmpty());
  prune(root.path(), 1, {9});
  EXPECT_THAT(steps_in(root.path()), ElementsAre(9, 1));
  prune(root.path(), 1, {});
  EXPECT_THAT(steps_in(root.path()), ElementsAre(1));
}

/// What is in a folder and in those below it, while another process removes it.
int entries_below(const std::string& root) {
  std::error_code gone;
  int count = 0;
  for (fs::recursive_directory_iterator entry(root, gone), end; !gone && entry != end; entry.increment(gone)) ++count;
  return count;
}

/// A process that prunes, killed when no more than so much is left.
void prune_and_kill(const std::string& root, int left) {
  const pid_t child = ::fork();
  if (child == 0) {
    (void)prune(root, 1, {});
    ::_exit(0);
  }
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) == 0)
    if (entries_below(root) <= left) ::kill(child, SIGKILL);
}

TEST(Directory, AKillInTheMiddleOfADeletionLeavesAValidSet) {
  const ScratchFolder folder;
  for (const std::int64_t step : {1, 2, 3, 4, 5, 6}) save(folder / "whole", step, small_tensors(), 3);
  const int all = entries_below(folder / "whole");
  const int kept = 2 + entries_below(folder / "whole/step-000000006");  // LATEST and the folder itself
  int in_the_middle = 0;
  for (int goal = all - 1; goal > kept; --goal) {
    const std::string root = folder / std::to_string(goal);
    fs::copy(folder / "whole", root, fs::copy_options::recursive);

    prune_and_kill(root, goal);

    in_the_middle += entries_below(root) > kept ? 1 : 0;
    const std::vector<CheckpointEntry> entries = list(root);
    ASSERT_FALSE(entries.empty());
    EXPECT_EQ(entries.back().step, 6);
    const auto names = names_in(root);
    EXPECT_EQ(std::ranges::count_if(names, [](const std::string& name) { return step_of_name(name).has_value(); }),
              std::ssize(entries))
        << "half of one is left under a name that counts";
    for (const CheckpointEntry& entry : entries) {
      PlainStorage storage;
      EXPECT_THAT(CheckpointReader(entry.path).verify(storage), IsEmpty()) << entry.path;
    }
    fs::remove_all(prepare_folder(root, 7));
    for (const std::string& name : names_in(root)) EXPECT_FALSE(name.ends_with(".tmp")) << name;
  }
  EXPECT_GT(in_the_middle, 0);
}

TEST(Directory, ARootThatIsAFileIsNamed) {
  const ScratchFolder folder;
  write_text_durably(folder / "root", "a file");

  EXPECT_THAT(message_of<IoError>([&] { static_cast<void>(prepare_folder(folder / "root/below", 1)); }),
              HasSubstr("root/below"));
}

}  // namespace
}  // namespace spillway::checkpoint
