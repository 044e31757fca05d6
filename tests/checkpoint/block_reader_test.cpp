// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/block_reader.hpp"

#include <numeric>

#include <fcntl.h>
#include <gmock/gmock.h>

#include "checkpoint/fixtures.hpp"
#include "checkpoint/hash.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::SizeIs;

constexpr std::size_t kElements = kHashBlock / sizeof(float);

/// 2.5 MiB at byte 4096 of a file.
class BlockReaderTest : public testing::Test {
 protected:
  void SetUp() override {
    std::iota(values_.begin(), values_.end(), 0.0F);
    dataset_ = {folder_ / "data", "/master/unit-000", "master", 0, 4096, values_.size() * sizeof(float), {}};
    append_block_hashes(std::as_bytes(std::span(values_)), dataset_.hashes);
    write_fully(open_file(dataset_.path, O_RDWR | O_CREAT), dataset_.path, dataset_.offset,
                std::as_bytes(std::span(values_)));
  }

  ScratchFolder folder_;
  PlainStorage storage_;
  std::vector<float> values_ = std::vector<float>(2 * kElements + kElements / 2);
  StoredDataset dataset_;
};

TEST_F(BlockReaderTest, GivesAnyRange) {
  BlockReader reader(storage_, kHashBlock);
  for (const Range range :
       {Range{0, 1}, Range{7, static_cast<std::int64_t>(values_.size())}, Range{kElements - 3, kElements + 3}}) {
    std::vector<float> to(static_cast<std::size_t>(range.size()));

    reader.read(dataset_, range.begin, to);

    EXPECT_TRUE(same_bits(to, std::span(values_).subspan(static_cast<std::size_t>(range.begin), to.size())));
  }
}

TEST_F(BlockReaderTest, ReadsABlockOnceForSmallPiecesInOrder) {
  BlockReader reader(storage_, kHashBlock);
  std::vector<float> to(1000);

  for (std::int64_t begin = 0; begin < 100'000; begin += 1000) reader.read(dataset_, begin, to);

  EXPECT_EQ(storage_.read_bytes(), kHashBlock);
}

TEST_F(BlockReaderTest, ADamagedBlockIsNamedAndOthersAreStillRead) {
  flip_byte(dataset_.path, dataset_.offset + kHashBlock + 17);
  BlockReader reader(storage_, 4 * kHashBlock);
  std::vector<float> to(8);

  reader.read(dataset_, 0, to);
  const auto read_damaged = [&] { reader.read(dataset_, kElements, to); };
  const std::string message = message_of<DataError>(read_damaged);

  EXPECT_THAT(message, AllOf(HasSubstr(dataset_.path),
                             HasSubstr("MiB 1 of /master/unit-000 (bytes 1052672 to 2101248 of the file) is damaged")));
  EXPECT_EQ(message_of<DataError>(read_damaged), message);
  EXPECT_THAT(reader.check(dataset_), SizeIs(1));
}

TEST_F(BlockReaderTest, ClosesItsFiles) {
  {
    BlockReader reader(storage_, kHashBlock);
    std::vector<float> to(8);
    reader.read(dataset_, 0, to);
    EXPECT_EQ(storage_.open_files(), 1U);
  }
  EXPECT_EQ(storage_.open_files(), 0U);
}

TEST_F(BlockReaderTest, ARangeOutsideIsRefused) {
  BlockReader reader(storage_, kHashBlock);
  std::vector<float> to(8);

  EXPECT_THROW(reader.read(dataset_, static_cast<std::int64_t>(values_.size()) - 7, to), Error);
}

}  // namespace
}  // namespace spillway::checkpoint
