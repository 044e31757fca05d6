// SPDX-License-Identifier: Apache-2.0
#include "offload/scratch_file.hpp"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>

#include "core/error.hpp"
#include "support/scratch_directory.hpp"

namespace spillway::offload {
namespace {

namespace fs = std::filesystem;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

void touch(const std::string& path) { std::ofstream(path) << "x"; }

TEST(RemoveAbandonedFolders, AFolderThatNobodyHolds_GoesWithItsFiles) {
  const test::ScratchDirectory directory;
  fs::create_directory(directory.file("spillway-1"));
  touch(directory.file("spillway-1/extents-0"));
  fs::create_directory(directory.file("spillway-2"));

  const auto removed = remove_abandoned_folders(directory.path(), "spillway-");

  EXPECT_THAT(removed, UnorderedElementsAre(directory.file("spillway-1"), directory.file("spillway-2")));
  EXPECT_TRUE(fs::is_empty(directory.path()));
}

TEST(RemoveAbandonedFolders, AFolderInUse_Stays) {
  const test::ScratchDirectory directory;
  if (directory.in_memory()) GTEST_SKIP() << "the build folder is in memory";
  const auto store = make_store("posix", {});
  const ScratchFolder held(*store, directory.path(), "spillway-held");

  EXPECT_THAT(remove_abandoned_folders(directory.path(), "spillway-"), IsEmpty());

  EXPECT_TRUE(fs::is_directory(held.path()));
}

TEST(RemoveAbandonedFolders, WhatIsNotOfARun_Stays) {
  const test::ScratchDirectory directory;
  fs::create_directory(directory.file("other-1"));
  fs::create_directory(directory.file("spillway-notes"));
  touch(directory.file("spillway-notes/read-me"));
  touch(directory.file("spillway-file"));

  EXPECT_THAT(remove_abandoned_folders(directory.path(), "spillway-"), IsEmpty());

  EXPECT_TRUE(fs::exists(directory.file("other-1")));
  EXPECT_TRUE(fs::exists(directory.file("spillway-notes/read-me")));
  EXPECT_TRUE(fs::exists(directory.file("spillway-file")));
}

TEST(RemoveAbandonedFolders, ADirectoryThatIsNotThere_HasNone) {
  EXPECT_THAT(remove_abandoned_folders("/no/such/directory", "spillway-"), IsEmpty());
}

TEST(ScratchFolder, IsRemovedWithItsOwner) {
  const test::ScratchDirectory directory;
  if (directory.in_memory()) GTEST_SKIP() << "the build folder is in memory";
  const auto store = make_store("posix", {});

  { const ScratchFolder folder(*store, directory.path(), "spillway-1"); }

  EXPECT_TRUE(fs::is_empty(directory.path()));
}

}  // namespace
}  // namespace spillway::offload
