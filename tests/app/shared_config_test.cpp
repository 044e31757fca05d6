// SPDX-License-Identifier: Apache-2.0
#include "app/shared_config.hpp"

#include <gtest/gtest.h>

#include "app/overrides.hpp"
#include "support/thread_ranks.hpp"
#include "train/agreement.hpp"

namespace spillway::app {
namespace {

TEST(ReadSharedRunOptions, EveryRankGetsWhatRank0Reads) {
  std::vector<train::RunOptions> options(3);

  test::run_on_thread_ranks(3, [&](comm::Communicator& communicator) {
    const std::string seed = std::to_string(100 + communicator.rank());
    options[static_cast<std::size_t>(communicator.rank())] = read_shared_run_options(
        communicator, {.file = "", .environment = {"SPILLWAY_TRAIN_SEED=" + seed}, .arguments = {}});
  });

  for (const auto& one : options) EXPECT_EQ(one.train.seed, 100U);
}

TEST(ReadSharedRunOptions, AWrongConfiguration_FailsAlikeOnEveryRank) {
  std::vector<std::string> messages(2);

  test::run_on_thread_ranks(2, [&](comm::Communicator& communicator) {
    try {
      (void)read_shared_run_options(communicator, {.file = "no/such.toml", .environment = {}, .arguments = {}});
    } catch (const train::AgreedFailure& failure) {
      EXPECT_EQ(failure.exit_code(), ExitCode::config);
      messages[static_cast<std::size_t>(communicator.rank())] = failure.what();
    }
  });

  EXPECT_EQ(messages[0], "no/such.toml: cannot be read: No such file or directory");
  EXPECT_EQ(messages[1], messages[0]);
}

}  // namespace
}  // namespace spillway::app
