// SPDX-License-Identifier: Apache-2.0
#include "offload/extent_store.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <unistd.h>

#include "offload/store_fixture.hpp"
#include "support/faulty_store.hpp"

namespace spillway::offload {
namespace {

namespace fs = std::filesystem;
using test::AlignedBytes;
using ::testing::AllOf;
using ::testing::HasSubstr;

class ExtentStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (directory_.in_memory()) GTEST_SKIP() << "the working directory is a tmpfs";
    fs::create_directory(directory_.file("one"));
    fs::create_directory(directory_.file("two"));
  }

  [[nodiscard]] ExtentStoreOptions options() const {
    return {.directories = {directory_.file("one"), directory_.file("two")},
            .folder = "job-7-rank-0",
            .kinds = {"exp_avg", "exp_avg_sq"}};
  }

  test::ScratchDirectory directory_;
  std::unique_ptr<BlockStore> store_ = make_posix_store({.queue_depth = 4});
  const std::vector<std::vector<std::size_t>> sizes_{{5000, 2500}, {4096, 8192}, {100, 0}};
};

TEST_F(ExtentStoreTest, EveryKindOfEveryExtent_HasItsOwnPlace) {
  ExtentStore extents(*store_, options(), sizes_);
  const auto pattern = [](auto extent, auto kind) { return static_cast<unsigned>(1 + 10 * extent + kind); };

  for (std::size_t extent = 0; extent < 3; ++extent) {
    for (std::size_t kind = 0; kind < 2; ++kind) {
      const AlignedBytes memory(extents.stored_bytes(extent, kind), pattern(extent, kind));
      extents.write(extent, kind, memory.span()).wait();
    }
  }

  for (std::size_t extent = 0; extent < 3; ++extent) {
    for (std::size_t kind = 0; kind < 2; ++kind) {
      const AlignedBytes back(extents.stored_bytes(extent, kind));
      const AlignedBytes written(extents.stored_bytes(extent, kind), pattern(extent, kind));
      extents.read(extent, kind, back.span()).wait();
      EXPECT_TRUE(std::equal(back.span().begin(), back.span().end(), written.span().begin())) << extent << " " << kind;
    }
  }
}

TEST_F(ExtentStoreTest, Files_AreStripedAlignedPrivateAndGoneAtTheEnd) {
  const std::string first = directory_.file("one/job-7-rank-0/extents-0");
  const std::string second = directory_.file("two/job-7-rank-0/extents-1");
  {
    const ExtentStore extents(*store_, options(), sizes_);

    EXPECT_THAT(extents.paths(), ::testing::ElementsAre(first, second));
    EXPECT_EQ(fs::file_size(first), 8192u + 4096 + 4096);  // extents 0 and 2
    EXPECT_EQ(fs::file_size(second), 4096u + 8192);        // extent 1
    EXPECT_EQ(fs::status(first).permissions(), fs::perms(0600));
    EXPECT_EQ(fs::status(fs::path(first).parent_path()).permissions(), fs::perms(0700));
  }
  EXPECT_TRUE(fs::is_empty(directory_.file("one")));
  EXPECT_TRUE(fs::is_empty(directory_.file("two")));
}

TEST_F(ExtentStoreTest, NeverWritten_ReadsAsZeros) {
  ExtentStore extents(*store_, options(), sizes_);
  const AlignedBytes memory(8192, 1);

  extents.read(0, 0, memory.span()).wait();

  EXPECT_EQ(std::count(memory.span().begin(), memory.span().end(), std::byte{0}), 8192);
}

void damage(const std::string& path, std::streamoff offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(offset);
  const auto byte = static_cast<char>(file.get() ^ 4);
  file.seekp(offset);
  file.put(byte);
}

TEST_F(ExtentStoreTest, DamagedByteOnTheDisk_IsNamedWithBothChecksums) {
  ExtentStore extents(*store_, options(), sizes_);
  const AlignedBytes memory(4096, 1);
  extents.write(0, 1, memory.span()).wait();
  damage(extents.paths()[0], 8192 + 2499);

  const auto message = message_of<IoError>([&] { extents.read(0, 1, memory.span()).wait(); });

  EXPECT_THAT(message, AllOf(HasSubstr("extent 0, exp_avg_sq"), HasSubstr(extents.paths()[0]), HasSubstr("offset 8192"),
                             ::testing::ContainsRegex("checksum [0-9a-f]{16} expected, [0-9a-f]{16} found")));
}

TEST_F(ExtentStoreTest, DamagedByteOfAnExtentNeverWritten_IsNoticed) {
  ExtentStore extents(*store_, options(), sizes_);
  const AlignedBytes memory(8192);
  damage(extents.paths()[0], 17);

  const auto message = message_of<IoError>([&] { extents.read(0, 0, memory.span()).wait(); });

  EXPECT_THAT(message, AllOf(HasSubstr("never written"), HasSubstr("byte 17 is 4")));
}

TEST_F(ExtentStoreTest, DamageBeyondTheBytesThatMeanSomething_IsNoDamage) {
  ExtentStore extents(*store_, options(), sizes_);
  const AlignedBytes memory(4096, 1);
  extents.write(0, 1, memory.span()).wait();
  damage(extents.paths()[0], 8192 + 2500);

  EXPECT_NO_THROW(extents.read(0, 1, memory.span()).wait());
}

TEST_F(ExtentStoreTest, WithoutChecksums_DamageGoesUnseen) {
  auto unchecked = options();
  unchecked.checksum = false;
  ExtentStore extents(*store_, unchecked, sizes_);
  const AlignedBytes memory(4096, 1);
  extents.write(0, 1, memory.span()).wait();
  damage(extents.paths()[0], 8192);

  EXPECT_NO_THROW(extents.read(0, 1, memory.span()).wait());
}

TEST_F(ExtentStoreTest, FailingRead_NamesExtentKindFileAndOffset) {
  test::FaultyStore faulty(*store_, {.failing_read = 1, .error_number = EIO});
  ExtentStore extents(faulty, options(), sizes_);
  const AlignedBytes memory(8192);

  extents.read(1, 1, memory.span()).wait();
  const auto message = message_of<IoError>([&] { extents.read(1, 1, memory.span()).wait(); });

  EXPECT_THAT(message, AllOf(HasSubstr("extent 1, exp_avg_sq"), HasSubstr(extents.paths()[1]), HasSubstr("offset 4096"),
                             HasSubstr("Input/output error")));
}

TEST_F(ExtentStoreTest, WrongBuffer_IsRefused) {
  ExtentStore extents(*store_, options(), sizes_);
  const AlignedBytes memory(4096);

  EXPECT_THAT(message_of<Error>([&] { (void)extents.read(0, 0, memory.span()); }),
              HasSubstr("a buffer of 4096 bytes; 8192 expected"));
  EXPECT_THAT(message_of<Error>([&] { (void)extents.write(3, 0, memory.span()); }), HasSubstr("there are 3 extents"));
}

TEST_F(ExtentStoreTest, MissingDirectory_IsNamedAndNothingIsLeftBehind) {
  auto wrong = options();
  wrong.directories[1] = directory_.file("three");

  const auto message = message_of<ConfigError>([&] { ExtentStore(*store_, wrong, sizes_); });

  EXPECT_THAT(message, AllOf(HasSubstr(directory_.file("three")), HasSubstr("No such file")));
  EXPECT_TRUE(fs::is_empty(directory_.file("one")));
}

TEST_F(ExtentStoreTest, FileInPlaceOfADirectory_IsNamed) {
  auto wrong = options();
  wrong.directories = {directory_.file("file")};
  std::ofstream(wrong.directories[0]) << "no directory";

  const auto message = message_of<ConfigError>([&] { ExtentStore(*store_, wrong, sizes_); });

  EXPECT_THAT(message, AllOf(HasSubstr(wrong.directories[0]), HasSubstr("Not a directory")));
}

TEST_F(ExtentStoreTest, DirectoryThatCannotBeWritten_IsNamed) {
  const std::string locked = directory_.file("one");
  fs::permissions(directory_.path(), fs::perms(0755));
  fs::permissions(locked, fs::perms(0555));
  // Root may write anywhere, so it becomes nobody for a while.
  const bool is_root = ::geteuid() == 0;
  if (is_root && ::seteuid(65534) != 0) GTEST_SKIP() << "root that cannot become nobody";

  const auto message = message_of<ConfigError>([&] { ExtentStore(*store_, options(), sizes_); });

  ASSERT_TRUE(!is_root || ::seteuid(0) == 0);
  fs::permissions(locked, fs::perms(0755));
  EXPECT_THAT(message, AllOf(HasSubstr(locked), HasSubstr("Permission denied")));
}

TEST_F(ExtentStoreTest, FolderOfAnotherRun_IsNotTouched) {
  const ExtentStore extents(*store_, options(), sizes_);

  const auto message = message_of<ConfigError>([&] { ExtentStore(*store_, options(), sizes_); });

  EXPECT_THAT(message, HasSubstr("job-7-rank-0 is there already"));
  EXPECT_TRUE(fs::exists(extents.paths()[0]));
}

TEST_F(ExtentStoreTest, Tmpfs_IsRefusedUnlessTheStoreIsInMemory) {
  struct statfs status {};
  if (::statfs("/dev/shm", &status) != 0 || status.f_type != TMPFS_MAGIC) GTEST_SKIP() << "/dev/shm is no tmpfs";
  auto in_memory = options();
  in_memory.directories = {"/dev/shm"};
  const auto memory_store = make_memory_store();

  const auto message = message_of<ConfigError>([&] { ExtentStore(*store_, in_memory, sizes_); });

  EXPECT_THAT(message, AllOf(HasSubstr("/dev/shm"), HasSubstr("tmpfs")));
  EXPECT_NO_THROW(ExtentStore(*memory_store, in_memory, sizes_));
}

TEST_F(ExtentStoreTest, NoDirectory_IsAConfigError) {
  auto none = options();
  none.directories.clear();

  EXPECT_THROW(ExtentStore(*store_, none, sizes_), ConfigError);
}

}  // namespace
}  // namespace spillway::offload
