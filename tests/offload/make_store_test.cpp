// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <iterator>
#include <string>

#include <gmock/gmock.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "offload/file.hpp"
#include "offload/store_fixture.hpp"

namespace spillway::offload {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

/// From here on the kernel answers io_uring_setup with EPERM, as it does in many containers. There is no way back.
void refuse_io_uring() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{.len = static_cast<unsigned short>(std::size(program)), .filter = program};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
    std::perror("seccomp");
    ::_exit(2);
  }
}

/// Exits with 0 if the store is posix and exactly one line was said, which it repeats.
[[noreturn]] void make_auto_store_without_io_uring() {
  refuse_io_uring();
  ::testing::internal::CaptureStderr();
  const std::string description = make_store("auto", {.queue_depth = 2})->description();
  const std::string said = ::testing::internal::GetCapturedStderr();
  std::fputs(said.c_str(), stderr);
  ::_exit(description == "posix, O_DIRECT where files have it, 2 in flight" &&
                  std::count(said.begin(), said.end(), '\n') == 1
              ? 0
              : 1);
}

TEST(MakeStoreDeathTest, AutoWhereTheRingIsRefused_IsPosixAndSaysWhyInOneLine) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // another process, because the refusal stays
  const std::string reason = uring_compiled() ? "io_uring_setup refused: Operation not permitted" : "no io_uring";

  EXPECT_EXIT(make_auto_store_without_io_uring(), ::testing::ExitedWithCode(0), "storage: posix.*" + reason);
}

TEST(MakeStore, AutoWhereTheRingIsGiven_IsUringAndSaysNothing) {
  try {
    (void)make_uring_store({});
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  ::testing::internal::CaptureStderr();

  const auto store = make_store("auto", {});

  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_THAT(store->description(), StartsWith("uring"));
}

TEST(MakeStore, UnknownName_IsQuotedWithTheKnownOnes) {
  const auto message = message_of<ConfigError>([] { (void)make_store("aio", {}); });

  EXPECT_THAT(message, AllOf(HasSubstr("\"aio\""), HasSubstr("auto, uring, posix or memory")));
}

TEST(MakeStore, SenselessOptions_AreRefused) {
  const auto depth = message_of<ConfigError>([] { (void)make_store("posix", {.queue_depth = 0}); });
  const auto bytes = message_of<ConfigError>([] { (void)make_store("posix", {.call_bytes = 1000}); });

  EXPECT_THAT(depth, HasSubstr("queue_depth: 0"));
  EXPECT_THAT(bytes, HasSubstr("call_bytes: 1000"));
}

TEST(MakeStore, Description_SaysWhatTheOpenFilesGot) {
  const test::ScratchDirectory directory;
  const auto store = make_store("posix", {.queue_depth = 2});
  EXPECT_EQ(store->description(), "posix, O_DIRECT where files have it, 2 in flight");

  const FileId without = store->open("/proc/version", OpenMode::read_existing, 0);
  EXPECT_EQ(store->description(), "posix, buffered, 2 in flight");

  if (File(directory.file("a"), OpenMode::create_new, 0, true).direct()) {
    (void)store->open(directory.file("a"), OpenMode::open_existing, 0);
    EXPECT_EQ(store->description(), "posix, O_DIRECT for some of the files, 2 in flight");
    store->close(without, false);
    EXPECT_EQ(store->description(), "posix, O_DIRECT, 2 in flight");
  }
  EXPECT_EQ(make_store("posix", {.queue_depth = 2, .direct = false})->description(), "posix, buffered, 2 in flight");
}

TEST(MakeStore, Buffered_AsksForNoAlignment) {
  EXPECT_EQ(make_store("posix", {.direct = false})->alignment(), 1u);
  EXPECT_EQ(make_store("posix", {.direct = true})->alignment(), 4096u);
}

}  // namespace
}  // namespace spillway::offload
