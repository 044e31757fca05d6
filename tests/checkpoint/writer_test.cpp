// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/writer.hpp"

#include <chrono>
#include <csignal>
#include <functional>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <sys/resource.h>

#include "checkpoint/directory.hpp"
#include "checkpoint/fixtures.hpp"
#include "checkpoint/manifest.hpp"
#include "checkpoint/reader.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// write_checkpoint of a source's state.
std::string save_from(StateSource& source, comm::Communicator& communicator, const std::string& root, std::int64_t step,
                      int piece, BulkStorage& storage, const std::string& metadata = "{}") {
  return write_checkpoint(communicator, {.root = root,
                                         .step = step,
                                         .piece = piece,
                                         .metadata = metadata,
                                         .creator = "a test",
                                         .source = source,
                                         .bulk = storage});
}

/// The same of PatternSource's state; the rank gives the piece of its number.
std::string save_on(comm::Communicator& communicator, const std::string& root, std::int64_t step, BulkStorage& storage,
                    const std::string& metadata = "{}") {
  const ShardMap shards(small_tensors(), communicator.size());
  PatternSource source(kinds_over(shards), communicator.rank());
  return save_from(source, communicator, root, step, communicator.rank(), storage, metadata);
}

/// A piece of the pattern in `kinds`, given as number `piece`. \return what each rank threw
std::vector<std::string> failures_of_save(int ranks, const std::string& root, const std::vector<StateKind>& kinds,
                                          const std::function<int(int rank)>& piece_of) {
  return on_ranks(ranks, [&](comm::Communicator& communicator) {
    const int piece = piece_of(communicator.rank());
    PatternSource source(kinds, piece);
    PlainStorage storage;
    save_from(source, communicator, root, 1, piece, storage);
  });
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
    } catch (const SaveFailure&) {
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
    EXPECT_THROW(save_on(communicator, root.path(), 2, full), SaveFailure);
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

TEST(Writer, FilesAreNamedAndOrderedByPieceWhateverRankGivesIt) {
  const ScratchFolder plain, turned;
  const Layouts layouts(factored_kinds(), 3);

  EXPECT_THAT(failures_of_save(3, plain.path(), layouts.kinds(), [](int rank) { return rank; }), Each(IsEmpty()));
  // Beyond the end of a second: no such file holds the time at which it was written.
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  EXPECT_THAT(failures_of_save(3, turned.path(), layouts.kinds(), [](int rank) { return (rank + 1) % 3; }),
              Each(IsEmpty()));

  for (const char* name : {"rank-00000-of-00003.h5", "rank-00001-of-00003.h5", "rank-00002-of-00003.h5"})
    EXPECT_TRUE(read_text(plain / "step-000000001/" + name) == read_text(turned / "step-000000001/" + name)) << name;
  PlainStorage storage;
  EXPECT_THAT(CheckpointReader(turned / "step-000000001").verify(storage), IsEmpty());
}

TEST(Writer, KindsWithEqualLayoutsShareATable) {
  const ScratchFolder root;
  const auto manifest_of = [](const std::string& folder) {
    return parse_manifest(read_text(folder + "/manifest.json"), folder);
  };

  EXPECT_EQ(manifest_of(save(root.path(), 1, small_tensors(), 2)).layouts.size(), 1U);
  EXPECT_EQ(manifest_of(save(root.path(), 2, factored_kinds(), 2)).layouts.size(), 5U);
}

TEST(Writer, StateForAnotherNumberOfRanksIsRefused) {
  const ScratchFolder root;
  const ShardMap three(small_tensors(), 3), two(small_tensors(), 2);
  const auto rank_itself = [](int rank) { return rank; };

  EXPECT_THAT(failures_of_save(2, root.path(), kinds_over(three), rank_itself),
              Each(HasSubstr("the state is for 3 ranks, the group has 2")));
  EXPECT_THAT(failures_of_save(2, root.path(), {{"master", &two}, {"exp_avg", &three}}, rank_itself),
              Each(HasSubstr("exp_avg is for 3 ranks, master for 2")));
  EXPECT_THAT(failures_of_save(2, root.path(), {}, rank_itself), Each(HasSubstr("no state to save")));
  EXPECT_THAT(names_in(root.path()), IsEmpty());
}

TEST(Writer, PiecesThatAreNotEachGivenOnceAreRefused) {
  const ScratchFolder root;
  const ShardMap shards(small_tensors(), 3);

  EXPECT_THAT(failures_of_save(3, root.path(), kinds_over(shards), [](int rank) { return rank == 2 ? 0 : rank; }),
              Each(HasSubstr("ranks 0 and 2 both give piece 0")));
  EXPECT_THAT(failures_of_save(3, root.path(), kinds_over(shards), [](int rank) { return rank + 1; }),
              Each(HasSubstr("rank 2: piece 3 of 3 was given")));
  EXPECT_THAT(names_in(root.path()), IsEmpty());
}

/// Cannot give its state.
class FailingSource : public PatternSource {
 public:
  FailingSource(std::vector<StateKind> kinds, int piece, Error failure)
      : PatternSource(std::move(kinds), piece), failure_(std::move(failure)) {}
  void read(const std::string& /*kind*/, int /*unit*/, Range /*range*/, std::span<float> /*to*/) override {
    throw failure_;
  }

 private:
  Error failure_;
};

TEST(Writer, AFailedSaveHasTheExitCodeOfTheFirstRankThatFailed) {
  const ScratchFolder root;
  const ShardMap shards(small_tensors(), 3);
  std::vector<ExitCode> codes(3);

  on_ranks(3, [&](comm::Communicator& communicator) {
    const int rank = communicator.rank();
    PlainStorage storage;
    PatternSource good(kinds_over(shards), rank);
    FailingSource bad(kinds_over(shards), rank, rank == 1 ? Error(DataError("bad bits")) : Error(IoError("bad disk")));
    try {
      save_from(rank == 0 ? good : bad, communicator, root.path(), 1, rank, storage);
    } catch (const SaveFailure& failure) {
      codes[static_cast<std::size_t>(rank)] = failure.exit_code();
      EXPECT_STREQ(failure.what(), "step 1 was not saved: rank 1: bad bits; rank 2: bad disk");
    }
  });

  EXPECT_THAT(codes, Each(ExitCode::data));
}

}  // namespace
}  // namespace spillway::checkpoint
