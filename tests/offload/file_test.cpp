// SPDX-License-Identifier: Apache-2.0
#include "offload/file.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>

#include "offload/store_fixture.hpp"

namespace spillway::offload {
namespace {

TEST(FileTest, DirectFile_BypassesThePageCacheAndAsksForAlignment) {
  const test::ScratchDirectory directory;
  const File file(directory.file("a"), OpenMode::create_new, 4096, true);
  if (!file.direct()) GTEST_SKIP() << "this file system has no O_DIRECT";

  EXPECT_EQ(file.alignment(), 4096u);
  EXPECT_NE(::fcntl(file.descriptor(), F_GETFL) & O_DIRECT, 0);
}

TEST(FileTest, BufferedFile_AsksForNothing) {
  const test::ScratchDirectory directory;
  const File file(directory.file("a"), OpenMode::create_new, 4096, false);

  EXPECT_EQ(file.alignment(), 1u);
  EXPECT_EQ(::fcntl(file.descriptor(), F_GETFL) & O_DIRECT, 0);
}

TEST(FileTest, PathThatHasNoDirectIo_IsOpenedBuffered) {
  const File file("/proc/self/comm", OpenMode::open_existing, 0, true);

  EXPECT_FALSE(file.direct());
  EXPECT_EQ(file.alignment(), 1u);
}

TEST(FileTest, FileThatIsOnlyRead_IsOpenedWithoutTheRightToWrite) {
  const File file("/proc/self/exe", OpenMode::read_existing, 0, false);

  EXPECT_EQ(::fcntl(file.descriptor(), F_GETFL) & O_ACCMODE, O_RDONLY);
}

TEST(FileTest, SyncOfWhatCannotBeSynced_NamesThePath) {
  File file("/dev/null", OpenMode::open_existing, 0, false);

  EXPECT_THAT(message_of<IoError>([&] { file.sync(); }), ::testing::HasSubstr("/dev/null: fsync failed"));
}

}  // namespace
}  // namespace spillway::offload
