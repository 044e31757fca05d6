// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/writer.hpp"

#include <csignal>
#include <set>

#include <gmock/gmock.h>
#include <sys/resource.h>

#include "checkpoint/directory.hpp"
#include "checkpoint/fixtures.hpp"
#include "checkpoint/reader.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// write_checkpoint of PatternSource's state on one rank.
std::string save_on(comm::Communicator& communicator, const std::string& root, std::int64_t step, BulkStorage& storage,
                    const std::string& metadata = "{}") {
  const ShardMap shards(small_tensors(), communicator.size());
  PatternSource source(shards, communicator.rank());
  return write_checkpoint(communicator, {.root = root,
                                         .step = step,
                                         .shards = shards,
                                         .metadata = metadata,
                                         .creator = "a test",
                                         .source = source,
                                         .bulk = storage});
}

class WriterAtRanks : public testing::TestWithParam<int> {};

TEST_P(WriterAtRanks, EveryRankSeesTheSameCommittedAndWholeCheckpoint) {
  const ScratchFolder root;
  const auto failures = on_ranks(GetParam(), [&](comm::Communicator& communicator) {
    PlainStorage storage;
    EXPECT_EQ(save_on(communicator, root / "new/checkpoints", 8, storage), root / "new/checkpoints/step-000000008");
  });

  EXPECT_THAT(failures, Each(IsEmpty()));
  const auto entry = latest(root / "new/checkpoints");
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->world_size, GetParam());
  PlainStorage storage;
  EXPECT_THAT(CheckpointReader(entry->path).verify(storage), IsEmpty());
  EXPECT_THAT(names_in(root / "new/checkpoints"), ElementsAre("LATEST", "step-000000008"));
}

TEST_P(WriterAtRanks, AFullDiskOnTheLastRankIsToldToAllAndLeavesTheEarlierCheckpoint) {
  const ScratchFolder root;
  save(root.path(), 1, small_tensors(), 1);

  const auto failures = on_ranks(GetParam(), [&](comm::Communicator& communicator) {
    const bool last = communicator.rank() == communicator.size() - 1;
    PlainStorage storage(last ? 20'000 : UINT64_MAX);
    try {
      save_on(communicator, root.path(), 2, storage);
    } catch (const IoError&) {
      EXPECT_THAT(names_in(root.path()), ElementsAre("LATEST", "step-000000001"));
      EXPECT_EQ(storage.open_files(), 0U);
      throw;
    }
  });

  EXPECT_THAT(failures, Each(AllOf(HasSubstr("step 2 was not saved: rank " + std::to_string(GetParam() - 1)),
                                   HasSubstr("step-000000002.tmp/rank-0000"), HasSubstr("No space left on device"))));
  EXPECT_EQ(latest(root.path())->step, 1);
  PlainStorage storage;
  EXPECT_THAT(CheckpointReader(latest(root.path())->path).verify(storage), IsEmpty());
}

TEST_P(WriterAtRanks, AFolderThatCannotBeMadeIsToldToAll) {
  const ScratchFolder folder;
  write_text_durably(folder / "file", "");

  const auto failures = on_ranks(GetParam(), [&](comm::Communicator& communicator) {
    PlainStorage storage;
    save_on(communicator, folder / "file/checkpoints", 2, storage);
  });

  EXPECT_THAT(failures, Each(AllOf(HasSubstr("rank 0: "), HasSubstr("file/checkpoints"))));
}

TEST_P(WriterAtRanks, TheNextSaveAfterAFailureWorks) {
  const ScratchFolder root;
  const auto failures = on_ranks(GetParam(), [&](comm::Communicator& communicator) {
    PlainStorage full(0), empty;
    EXPECT_THROW(save_on(communicator, root.path(), 2, full), IoError);
    save_on(communicator, root.path(), 2, empty);
    save_on(communicator, root.path(), 2, empty);
  });

  EXPECT_THAT(failures, Each(IsEmpty()));
  EXPECT_THAT(names_in(root.path()), ElementsAre("LATEST", "step-000000002"));
}

INSTANTIATE_TEST_SUITE_P(Ranks, WriterAtRanks, testing::Values(1, 2, 3));

TEST(Writer, LatestThatCannotBeReplacedIsToldToAllAndTheCheckpointIsThere) {
  const ScratchFolder root;
  static_cast<void>(prepare_folder(root / "LATEST/in the way", 1));

  const auto failures = on_ranks(2, [&](comm::Communicator& communicator) {
    PlainStorage storage;
    save_on(communicator, root.path(), 1, storage);
  });

  EXPECT_THAT(failures, Each(AllOf(HasSubstr("rank 0: "), HasSubstr("LATEST"))));
  EXPECT_THAT(names_in(root.path()), ElementsAre("LATEST", "step-000000001"));
  PlainStorage storage;
  EXPECT_THAT(CheckpointReader(latest(root.path())->path).verify(storage), IsEmpty());
}

/// While it lives no file grows beyond `bytes`: a full disk that needs no privileges.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit now{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &now);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST(Writer, WhereverTheSystemRefusesAWriteTheEarlierCheckpointStays) {
  const ScratchFolder root;
  save(root.path(), 1, small_tensors(), 2);
  std::set<std::string> refused;
  for (rlim_t limit = 0; names_in(root.path()).size() == 2; limit += 16384) {
    std::vector<std::string> failures;
    {
      const FileSizeLimit full(limit);
      failures = on_ranks(2, [&](comm::Communicator& communicator) {
        PlainStorage storage;
        save_on(communicator, root.path(), 2, storage, std::string(200'000, ' ') + "{}");
      });
    }
    ASSERT_EQ(failures[0], failures[1]);
    for (const char* name : {"rank-00000", "checkpoint.h5"})
      if (failures[0].find(name) != std::string::npos) refused.insert(name);
  }

  EXPECT_THAT(refused, ElementsAre("checkpoint.h5", "rank-00000"));
  EXPECT_THAT(names_in(root.path()), ElementsAre("LATEST", "step-000000001", "step-000000002"));
  PlainStorage storage;
  for (const CheckpointEntry& entry : list(root.path()))
    EXPECT_THAT(CheckpointReader(entry.path).verify(storage), IsEmpty());
}

TEST(Writer, ShardsForAnotherNumberOfRanksAreRefused) {
  const ScratchFolder root;
  const ShardMap shards(small_tensors(), 3);

  const auto failures = on_ranks(2, [&](comm::Communicator& communicator) {
    PatternSource source(shards, communicator.rank());
    PlainStorage storage;
    write_checkpoint(communicator, {.root = root.path(),
                                    .step = 1,
                                    .shards = shards,
                                    .metadata = "{}",
                                    .creator = "",
                                    .source = source,
                                    .bulk = storage});
  });

  EXPECT_THAT(failures, Each(HasSubstr("the shards are for 3 ranks, the group has 2")));
}

}  // namespace
}  // namespace spillway::checkpoint
