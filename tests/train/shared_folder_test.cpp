// SPDX-License-Identifier: Apache-2.0
#include "train/shared_folder.hpp"

#include <filesystem>

#include <gmock/gmock.h>

#include "core/error.hpp"
#include "support/scratch_directory.hpp"
#include "support/thread_ranks.hpp"

namespace spillway::train {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(CheckSharedFolder, OfAllRanks_PassesAndStaysEmpty) {
  const test::ScratchDirectory folder;

  test::run_on_thread_ranks(
      3, [&](comm::Communicator& communicator) { check_shared_folder("checkpoint.dir", folder.path(), communicator); });

  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(CheckSharedFolder, WhereARankSeesAnother_IsRefusedOnAllAndNamesIt) {
  const test::ScratchDirectory shared, other;
  std::vector<std::string> messages(3);

  test::run_on_thread_ranks(3, [&](comm::Communicator& communicator) {
    const auto rank = static_cast<std::size_t>(communicator.rank());
    try {
      check_shared_folder("checkpoint.dir", rank == 2 ? other.path() : shared.path(), communicator,
                          std::chrono::milliseconds(200));
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::config);
      messages[rank] = error.what();
    }
  });

  for (const std::string& message : messages)
    EXPECT_THAT(message, AllOf(HasSubstr("[rank 2] checkpoint.dir"), HasSubstr("must be on a file system that all")));
  EXPECT_TRUE(std::filesystem::is_empty(shared.path()));
}

}  // namespace
}  // namespace spillway::train
