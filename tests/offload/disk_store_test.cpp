// SPDX-License-Identifier: Apache-2.0
// What only stores over a disk have: full disks, the kernel's byte counts.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "offload/file.hpp"
#include "offload/store_fixture.hpp"

namespace spillway::offload {
namespace {

using test::AlignedBytes;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// Files cannot grow beyond `bytes` while this lives: a disk that is full, but for the errno.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

class DiskStore : public EveryStore {};

TEST_P(DiskStore, WriteThatFitsOnlyInPart_FailsWithFileOffsetAndReason) {
  const AlignedBytes memory(4 * 4096);
  const FileId file = store().open(path("a"), OpenMode::create_new, 0);
  const FileSizeLimit limit(4 * 4096);

  Completion write = store().write(file, 2 * 4096, memory.span());
  const auto message = message_of<IoError>([&] { write.wait(); });

  EXPECT_THAT(message,
              AllOf(HasSubstr(path("a")), HasSubstr("write of 16384 bytes at offset 8192 failed after 8192 bytes"),
                    HasSubstr("File too large")));
  EXPECT_EQ(store().counters().writes, 0u);
}

TEST_P(DiskStore, ReservationThatDoesNotFit_NamesFileAndBytesAndLeavesNoFile) {
  const FileSizeLimit limit(4096);

  const auto message = message_of<IoError>([&] { (void)store().open(path("a"), OpenMode::create_new, 1 << 20); });

  EXPECT_THAT(message, AllOf(HasSubstr(path("a")), HasSubstr("cannot reserve 1048576 bytes")));
  EXPECT_FALSE(std::filesystem::exists(path("a")));
}

TEST_P(DiskStore, NewFile_IsItsOwnersAlone) {
  (void)store().open(path("a"), OpenMode::create_new, 0);

  EXPECT_EQ(std::filesystem::status(path("a")).permissions(), std::filesystem::perms(0600));
}

TEST_P(DiskStore, Reservation_GivesTheFileItsSizeAndItsBlocks) {
  (void)store().open(path("a"), OpenMode::create_new, 1 << 20);

  struct stat status {};
  ASSERT_EQ(::stat(path("a").c_str(), &status), 0);
  EXPECT_EQ(status.st_size, 1 << 20);
  EXPECT_GE(status.st_blocks * 512, 1 << 20);
}

class DirectStore : public EveryStore {};

struct ProcessIo {
  std::uint64_t read_bytes = 0, write_bytes = 0;
  bool known = false;
};

ProcessIo process_io() {
  ProcessIo io;
  std::ifstream in("/proc/self/io");
  std::string key;
  std::uint64_t value = 0;
  while (in >> key >> value) {
    if (key == "read_bytes:") io.read_bytes = value;
    if (key == "write_bytes:") io.write_bytes = value;
    io.known = true;
  }
  return io;
}

TEST_P(DirectStore, Transfers_AreWhatTheKernelCounts) {
  if (!process_io().known) GTEST_SKIP() << "this kernel has no /proc/self/io";
  constexpr std::size_t kBytes = 16 << 20, kPiece = 1 << 20;
  if (!File(path("probe"), OpenMode::create_new, 4096, true).direct() || directory_.in_memory()) {
    GTEST_SKIP() << "this file system has no O_DIRECT";
  }
  const AlignedBytes memory(kBytes, 1);
  const FileId file = store().open(path("a"), OpenMode::create_new, kBytes);
  const auto before = process_io();

  std::vector<Completion> transfers;
  for (std::size_t at = 0; at < kBytes; at += kPiece) {
    transfers.push_back(store().write(file, at, memory.span().subspan(at, kPiece)));
  }
  for (auto& one : transfers) one.wait();
  transfers.clear();
  for (std::size_t at = 0; at < kBytes; at += kPiece) {
    transfers.push_back(store().read(file, at, memory.span().subspan(at, kPiece)));
  }
  for (auto& one : transfers) one.wait();

  const auto after = process_io();
  const auto counters = store().counters();
  EXPECT_EQ(counters.read_bytes, kBytes);
  EXPECT_EQ(counters.written_bytes, kBytes);
  EXPECT_NEAR(static_cast<double>(after.read_bytes - before.read_bytes), kBytes, 0.05 * kBytes);
  EXPECT_NEAR(static_cast<double>(after.write_bytes - before.write_bytes), kBytes, 0.05 * kBytes);
}

INSTANTIATE_TEST_SUITE_P(Stores, DiskStore,
                         ::testing::Values(StoreKind{"posix"}, StoreKind{"posix", false}, StoreKind{"uring"},
                                           StoreKind{"uring", false}),
                         test_name);
INSTANTIATE_TEST_SUITE_P(Stores, DirectStore, ::testing::Values(StoreKind{"posix"}, StoreKind{"uring"}), test_name);

}  // namespace
}  // namespace spillway::offload
