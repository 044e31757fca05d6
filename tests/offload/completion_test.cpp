// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include <gmock/gmock.h>

#include "core/error.hpp"
#include "core/log.hpp"
#include "offload/block_store.hpp"

namespace spillway::offload {
namespace {

class CountedState final : public Completion::State {
 public:
  CountedState(int& waits, bool fails) : waits_(waits), fails_(fails) {}
  void wait() override {
    ++waits_;
    if (fails_) throw IoError("a bad block");
  }
  [[nodiscard]] bool ready() override { return false; }

 private:
  int& waits_;
  bool fails_;
};

Completion counted(int& waits, bool fails = false) { return Completion(std::make_shared<CountedState>(waits, fails)); }

TEST(CompletionTest, WaitsOnce) {
  int waits = 0;
  Completion completion = counted(waits);
  EXPECT_TRUE(completion.pending());
  EXPECT_FALSE(completion.ready());

  completion.wait();
  completion.wait();

  EXPECT_EQ(waits, 1);
  EXPECT_FALSE(completion.pending());
  EXPECT_TRUE(completion.ready());
}

TEST(CompletionTest, ErrorIsThrownOnce) {
  int waits = 0;
  Completion completion = counted(waits, true);

  EXPECT_THROW(completion.wait(), IoError);
  EXPECT_NO_THROW(completion.wait());
}

TEST(CompletionTest, Dropped_WaitsAndSaysTheError) {
  int waits = 0;
  ::testing::internal::CaptureStderr();

  { const Completion completion = counted(waits, true); }

  EXPECT_EQ(waits, 1);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), ::testing::HasSubstr("a bad block"));
}

TEST(CompletionTest, Dropped_OnAnyRank_SaysTheError) {
  int waits = 0;
  ::testing::internal::CaptureStderr();
  log::start(3, false);

  { const Completion completion = counted(waits, true); }

  log::start(0, false);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              ::testing::AllOf(::testing::HasSubstr("3]"), ::testing::HasSubstr("a bad block")));
}

TEST(CompletionTest, AssignedOver_WaitsForTheOldOne) {
  int first = 0, second = 0;
  Completion completion = counted(first);

  completion = counted(second);

  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 0);
}

}  // namespace
}  // namespace spillway::offload
