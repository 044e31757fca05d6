// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/root_lock.hpp"

#include <optional>

#include <gmock/gmock.h>
#include <unistd.h>

#include "checkpoint/directory.hpp"
#include "checkpoint/fixtures.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(RootLock, IsRefusedWhileAnotherHoldsIt_NamingTheHolder) {
  const ScratchFolder folder;
  const std::string root = folder / "made/on/the/way";
  std::optional<RootLock> first;
  first.emplace(root);

  EXPECT_THAT(message_of<ConfigError>([&] { const RootLock second(root); }),
              AllOf(HasSubstr(root + ": another run saves its checkpoints here: process " + std::to_string(::getpid())),
                    HasSubstr("checkpoint.dir")));

  first.reset();
  EXPECT_NO_THROW(RootLock{root}) << "the file of the one before stays, but not its lock";
}

TEST(RootLock, DoesNotConcernReadersAndSaves) {
  const ScratchFolder root;
  const RootLock lock(root.path());

  save(root.path(), 3, small_tensors(), 1);

  EXPECT_TRUE(latest(root.path()).has_value());
}

TEST(RootLock, WhereTheFileCannotBeMade_SaysSo) {
  const ScratchFolder folder;
  write_text_durably(folder / "file", "");

  EXPECT_THAT(message_of<IoError>([&] { const RootLock lock(folder / "file"); }), HasSubstr(folder / "file"));
}

}  // namespace
}  // namespace spillway::checkpoint
