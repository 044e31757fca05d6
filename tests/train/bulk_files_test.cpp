// SPDX-License-Identifier: Apache-2.0
#include "train/bulk_files.hpp"

#include <array>
#include <memory>

#include <gtest/gtest.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

// Files that nobody may open for writing, or make durable: these hold for root too.
constexpr const char* kRunningProgram = "/proc/self/exe";
constexpr const char* kWithoutSync = "/proc/version";

class BulkFilesTest : public testing::Test {
 protected:
  std::unique_ptr<offload::BlockStore> store_ = offload::make_posix_store({.queue_depth = 1, .direct = false});
  BulkFiles files_{*store_};
  std::array<std::byte, 4> bytes_{};
};

TEST_F(BulkFilesTest, Read_NeedsNoRightToWrite) {
  ASSERT_THROW((void)store_->open(kRunningProgram, offload::OpenMode::open_existing, 0), IoError);

  files_.read(kRunningProgram, 0, bytes_);
  files_.finish(kRunningProgram);

  EXPECT_EQ(bytes_[1], std::byte{'E'});
}

TEST_F(BulkFilesTest, Finish_OfWhatWasOnlyRead_MakesNothingDurable) {
  const offload::FileId same = store_->open(kWithoutSync, offload::OpenMode::read_existing, 0);
  ASSERT_THROW(store_->close(same, true), IoError);

  files_.read(kWithoutSync, 0, bytes_);
  files_.finish(kWithoutSync);

  EXPECT_EQ(bytes_[0], std::byte{'L'});
}

}  // namespace
}  // namespace spillway::train
