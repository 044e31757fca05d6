// SPDX-License-Identifier: Apache-2.0
#include "train/agreement.hpp"

#include <new>

#include <gmock/gmock.h>

#include "support/thread_ranks.hpp"

namespace spillway::train {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Seen {
  std::string message;
  ExitCode code = ExitCode::done;
};

/// What each of `ranks` ranks sees after `stage`, called with the rank.
std::vector<Seen> seen_by(int ranks, const std::function<void(int)>& stage) {
  std::vector<Seen> seen(static_cast<std::size_t>(ranks));
  test::run_on_thread_ranks(ranks, [&](comm::Communicator& communicator) {
    try {
      agree(communicator, [&] { stage(communicator.rank()); });
    } catch (const AgreedFailure& failure) {
      seen[static_cast<std::size_t>(communicator.rank())] = {failure.what(), failure.exit_code()};
    }
  });
  return seen;
}

TEST(Agree, WhenAllRanksSucceed_NobodyThrows) {
  for (const Seen& seen : seen_by(3, [](int) {})) EXPECT_EQ(seen.code, ExitCode::done);
}

TEST(Agree, WhenOneRankFails_AllThrowItsMessageWithItsRank) {
  const auto all = seen_by(3, [](int rank) {
    if (rank == 1) throw DataError("pairs.source:7: empty line");
  });

  for (const Seen& seen : all) {
    EXPECT_EQ(seen.message, "[rank 1] pairs.source:7: empty line");
    EXPECT_EQ(seen.code, ExitCode::data);
  }
}

TEST(Agree, WhenAllRanksFailAlike_TheMessageIsSaidOnce) {
  for (const Seen& seen : seen_by(3, [](int) { throw ConfigError("no such thing"); })) {
    EXPECT_EQ(seen.message, "no such thing");
    EXPECT_EQ(seen.code, ExitCode::config);
  }
}

TEST(Agree, WhenRanksFailDifferently_EachMessageNamesItsRanksAndTheLowestRankGivesTheCode) {
  const auto all = seen_by(4, [](int rank) {
    if (rank == 1) throw IoError("disk");
    if (rank > 1) throw DataError("data");
  });

  for (const Seen& seen : all) {
    EXPECT_EQ(seen.message, "[rank 1] disk\n[ranks 2, 3] data");
    EXPECT_EQ(seen.code, ExitCode::failure);
  }
}

TEST(Agree, WhenManyRanksFailDifferently_SaysHowManyMore) {
  const auto all = seen_by(6, [](int rank) { throw DataError(std::to_string(rank)); });

  EXPECT_EQ(all[5].message, "[rank 0] 0\n[rank 1] 1\n[rank 2] 2\n[rank 3] 3\nand 2 more");
}

TEST(FailureText, OnSeveralMachinesNamesThem) {
  const std::vector<Failure> one = {{"", ExitCode::done}, {"disk", ExitCode::failure}, {"disk", ExitCode::failure}};
  const std::vector<Failure> first = {{"disk", ExitCode::failure}, {"", ExitCode::done}, {"", ExitCode::done}};
  const std::vector<std::string> hosts = {"node1", "node2", "node3"};

  EXPECT_EQ(failure_text(one, hosts), "[ranks 1 on node2, 2 on node3] disk");
  EXPECT_EQ(failure_text(first, hosts), "[rank 0 on node1] disk");
}

TEST(TextOfRank0, ReachesEveryRankAndIsMadeOnce) {
  std::vector<std::string> texts(3);
  std::atomic<int> made = 0;

  test::run_on_thread_ranks(3, [&](comm::Communicator& communicator) {
    texts[static_cast<std::size_t>(communicator.rank())] = text_of_rank_0(communicator, [&] {
      ++made;
      return std::string("text of ") + std::to_string(communicator.rank());
    });
  });

  EXPECT_THAT(texts, Each("text of 0"));
  EXPECT_EQ(made, 1);
}

template <class Exception>
Failure failure_of(const Exception& exception) {
  try {
    throw exception;
  } catch (...) {
    return current_failure();
  }
}

TEST(CurrentFailure, KeepsTheMessageAndCodeOfOurErrors) {
  EXPECT_EQ(failure_of(PlanError("short by 3")).message, "short by 3");
  EXPECT_EQ(failure_of(PlanError("")).code, ExitCode::plan);
  EXPECT_EQ(failure_of(NotCompiled("")).code, ExitCode::config);
}

TEST(CurrentFailure, WhatIsABug_SaysWhereAndWhatToReport) {
  const Failure failure = failure_of(Error("odd"));

  EXPECT_EQ(failure.code, ExitCode::internal);
  EXPECT_THAT(failure.message, StartsWith("internal error: odd ("));
  EXPECT_THAT(failure.message, HasSubstr("agreement_test.cpp:"));
  EXPECT_THAT(failure.message, HasSubstr("Please report it"));
}

TEST(CurrentFailure, OtherExceptionsAreBugs) {
  EXPECT_EQ(failure_of(std::runtime_error("odd")).code, ExitCode::internal);
  EXPECT_THAT(failure_of(std::runtime_error("odd")).message, StartsWith("internal error: odd. "));
  EXPECT_THAT(failure_of(std::bad_alloc()).message, HasSubstr("no more memory"));
  EXPECT_EQ(failure_of(3).code, ExitCode::internal);
}

}  // namespace
}  // namespace spillway::train
