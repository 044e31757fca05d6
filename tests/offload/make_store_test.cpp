// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>

#include <gmock/gmock.h>
#include <sys/resource.h>

#include "offload/store_fixture.hpp"

namespace spillway::offload {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

/// The process can open nothing while this lives, so the kernel refuses a ring.
class NoMoreDescriptors {
 public:
  NoMoreDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit limit{.rlim_cur = 0, .rlim_max = before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  NoMoreDescriptors(const NoMoreDescriptors&) = delete;
  NoMoreDescriptors& operator=(const NoMoreDescriptors&) = delete;
  ~NoMoreDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

TEST(MakeStore, AutoWhereTheRingIsRefused_IsPosixAndSaysWhyInOneLine) {
  ::testing::internal::CaptureStderr();

  std::string description;
  {
    const NoMoreDescriptors refused;
    description = make_store("auto", {.queue_depth = 2})->description();
  }

  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(description, "posix, O_DIRECT, 2 in flight");
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_THAT(said, AllOf(HasSubstr("posix"), HasSubstr(uring_compiled() ? "Too many open files" : "no io_uring")));
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
  EXPECT_THAT(message_of<ConfigError>([] { (void)make_store("posix", {.queue_depth = 0}); }), HasSubstr("queue_depth: 0"));
  EXPECT_THAT(message_of<ConfigError>([] { (void)make_store("posix", {.call_bytes = 1000}); }), HasSubstr("call_bytes: 1000"));
}

TEST(MakeStore, Buffered_AsksForNoAlignment) {
  EXPECT_EQ(make_store("posix", {.direct = false})->alignment(), 1u);
  EXPECT_EQ(make_store("posix", {.direct = true})->alignment(), 4096u);
}

}  // namespace
}  // namespace spillway::offload
