// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <sys/mman.h>

#include "offload/store_fixture.hpp"

namespace spillway::offload {
namespace {

using test::AlignedBytes;
using ::testing::HasSubstr;

class UringStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    try {
      store_ = make_uring_store({.queue_depth = 4, .call_bytes = 16384});
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
    file_ = store_->open(directory_.file("a"), OpenMode::create_new, 1 << 20);
  }

  test::ScratchDirectory directory_;
  std::unique_ptr<BlockStore> store_;
  FileId file_;
};

TEST_F(UringStoreTest, RegisteredMemory_MovesTheSameBytesAsOther) {
  const AlignedBytes memory(8 * 65536, 1);
  const AlignedBytes other(65536);
  if (!store_->register_buffer(memory.span())) GTEST_SKIP() << "the kernel does not register memory";

  store_->write(file_, 0, memory.span().subspan(65536, 65536)).wait();
  store_->read(file_, 0, other.span()).wait();
  store_->write(file_, 65536, other.span()).wait();
  store_->read(file_, 65536, memory.span().first(65536)).wait();

  EXPECT_TRUE(std::equal(other.span().begin(), other.span().end(), memory.span().begin() + 65536));
  EXPECT_TRUE(std::equal(other.span().begin(), other.span().end(), memory.span().begin()));
}

TEST_F(UringStoreTest, MemoryThatTheKernelDoesNotRegister_IsRefusedWithOneLineAndTransfersGoOn) {
  void* forbidden = ::mmap(nullptr, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(forbidden, MAP_FAILED);
  const AlignedBytes memory(65536, 1);
  const AlignedBytes back(65536);
  ::testing::internal::CaptureStderr();

  const bool registered = store_->register_buffer({static_cast<std::byte*>(forbidden), 65536});

  const std::string said = ::testing::internal::GetCapturedStderr();
  store_->write(file_, 0, memory.span()).wait();
  store_->read(file_, 0, back.span()).wait();
  EXPECT_FALSE(registered);
  EXPECT_THAT(said, HasSubstr("does not register 65536 bytes"));
  EXPECT_TRUE(std::equal(back.span().begin(), back.span().end(), memory.span().begin()));
  ::munmap(forbidden, 65536);
}

TEST_F(UringStoreTest, MoreMemoryThanTheTableHolds_IsRefusedAndTransfersGoOn) {
  const AlignedBytes memory(4096, 1);
  const AlignedBytes back(4096);
  ::testing::internal::CaptureStderr();

  bool registered = true;
  for (int i = 0; i < 65 && registered; ++i) registered = store_->register_buffer(memory.span());

  ::testing::internal::GetCapturedStderr();
  EXPECT_FALSE(registered);
  store_->write(file_, 0, memory.span()).wait();
  store_->read(file_, 0, back.span()).wait();
  EXPECT_TRUE(std::equal(back.span().begin(), back.span().end(), memory.span().begin()));
}

TEST_F(UringStoreTest, MoreFilesThanTheKernelKeepsInItsTable_AllMoveTheirOwnBytes) {
  constexpr int kFiles = 100;
  const AlignedBytes back(4096);
  for (int round = 0; round < 2; ++round) {  // the second with places that the first gave up
    std::vector<FileId> files;
    for (int i = 0; i < kFiles; ++i) {
      const std::string name = std::to_string(round) + "-" + std::to_string(i);
      files.push_back(store_->open(directory_.file(name), OpenMode::create_new, 4096));
      const AlignedBytes mine(4096, static_cast<unsigned>(kFiles * round + i));
      store_->write(files.back(), 0, mine.span()).wait();
    }
    for (int i = 0; i < kFiles; ++i) {
      const AlignedBytes mine(4096, static_cast<unsigned>(kFiles * round + i));
      store_->read(files[static_cast<std::size_t>(i)], 0, back.span()).wait();
      EXPECT_TRUE(std::equal(back.span().begin(), back.span().end(), mine.span().begin())) << round << " " << i;
    }
    for (const FileId file : files) store_->close(file, false);
  }
}

}  // namespace
}  // namespace spillway::offload
