// SPDX-License-Identifier: Apache-2.0
#include "offload/transfer.hpp"

#include <cerrno>
#include <memory>
#include <thread>

#include <gmock/gmock.h>

#include "offload/store_fixture.hpp"

namespace spillway::offload {
namespace {

using test::AlignedBytes;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Progress = Transfer::Progress;

class TransferTest : public ::testing::Test {
 protected:
  Transfer make(Direction direction, bool direct) {
    file_ = std::make_shared<const File>(directory_.file("a"), OpenMode::create_new, 4096, direct);
    return Transfer(direction, {.file = file_, .id = FileId{0}, .offset_bytes = 8192}, memory_.span());
  }

  test::ScratchDirectory directory_;
  AlignedBytes memory_{4 * 4096};
  std::shared_ptr<const File> file_;
};

TEST_F(TransferTest, ShortResult_GoesOnWhereItEnded) {
  Transfer transfer = make(Direction::read, false);

  const Progress first = transfer.advance(5000);

  EXPECT_EQ(first, Progress::more);
  EXPECT_EQ(transfer.rest_offset(), 8192u + 5000);
  EXPECT_EQ(transfer.rest(1 << 30).data(), memory_.span().data() + 5000);
  EXPECT_EQ(transfer.rest(1 << 30).size(), 4u * 4096 - 5000);
  EXPECT_EQ(transfer.rest(100).size(), 100u);
  EXPECT_EQ(transfer.advance(4 * 4096 - 5000), Progress::whole);
}

TEST_F(TransferTest, ShortResultOfADirectFile_GoesOnAtTheLastAlignedByte) {
  Transfer transfer = make(Direction::read, true);
  if (!file_->direct()) GTEST_SKIP() << "this file system has no O_DIRECT";

  const Progress first = transfer.advance(5000);

  EXPECT_EQ(first, Progress::more);
  EXPECT_EQ(transfer.rest_offset(), 8192u + 4096);
  EXPECT_EQ(transfer.advance(904), Progress::failed);  // the same end again: the file has no more
}

TEST_F(TransferTest, InterruptedOrBusy_IsTriedAgainFromTheSamePlace) {
  Transfer transfer = make(Direction::write, false);
  (void)transfer.advance(4096);

  EXPECT_EQ(transfer.advance(-EINTR), Progress::more);
  EXPECT_EQ(transfer.advance(-EAGAIN), Progress::more);

  EXPECT_EQ(transfer.rest_offset(), 8192u + 4096);
  EXPECT_EQ(transfer.advance(3 * 4096), Progress::whole);
}

TEST_F(TransferTest, Error_NamesFileOffsetLengthAndReason) {
  Transfer transfer = make(Direction::write, false);
  (void)transfer.advance(4096);

  const Progress last = transfer.advance(-ENOSPC);
  transfer.finish();

  EXPECT_EQ(last, Progress::failed);
  EXPECT_THAT(message_of<IoError>([&] { transfer.wait(); }),
              AllOf(HasSubstr(directory_.file("a")), HasSubstr("write of 16384 bytes at offset 8192"),
                    HasSubstr("failed after 4096 bytes"), HasSubstr("No space left on device")));
}

TEST_F(TransferTest, Wait_BlocksUntilFinish) {
  Transfer transfer = make(Direction::write, false);
  (void)transfer.advance(4 * 4096);
  EXPECT_FALSE(transfer.ready());

  std::thread other([&] { transfer.finish(); });
  transfer.wait();

  EXPECT_TRUE(transfer.ready());
  other.join();
}

}  // namespace
}  // namespace spillway::offload
