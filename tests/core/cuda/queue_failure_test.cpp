// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/queue_failure.hpp"

#include <limits>
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>

namespace spillway::cuda {
namespace {

class QueueFailures : public testing::Test {
 protected:
  std::shared_ptr<std::mutex> mutex_ = std::make_shared<std::mutex>();
  std::shared_ptr<QueueFailure> one_ = std::make_shared<QueueFailure>(mutex_);
  std::shared_ptr<QueueFailure> two_ = std::make_shared<QueueFailure>(mutex_);
};

std::exception_ptr error(const char* what) { return std::make_exception_ptr(std::runtime_error(what)); }

std::string text(const std::exception_ptr& thrown) {
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const std::runtime_error& caught) {
    return caught.what();
  }
  return "";
}

TEST_F(QueueFailures, WhatWasThrown_IsSeenFromTheNextPlaceOn) {
  one_->fail(3, error("disk"));

  EXPECT_EQ(text(one_->before(3)), "");
  EXPECT_EQ(text(one_->before(4)), "disk");
  EXPECT_EQ(text(one_->before(9)), "disk");
}

TEST_F(QueueFailures, OfTwo_TheEarlierCounts) {
  one_->fail(3, error("disk"));
  one_->fail(5, error("network"));

  EXPECT_EQ(text(one_->before(9)), "disk");
}

TEST_F(QueueFailures, AWait_InheritsWhatWasThrownBeforeItsEvent) {
  two_->inherit(2, one_, 4);
  one_->fail(3, error("disk"));

  EXPECT_EQ(text(two_->before(2)), "");
  EXPECT_EQ(text(two_->before(3)), "disk");
}

TEST_F(QueueFailures, AWait_DoesNotInheritWhatWasThrownAfterItsEvent) {
  two_->inherit(2, one_, 3);
  one_->fail(3, error("disk"));

  EXPECT_EQ(text(two_->before(9)), "");
}

TEST_F(QueueFailures, AWaitForAQueueThatWaited_InheritsFromBoth) {
  const auto three = std::make_shared<QueueFailure>(mutex_);
  two_->inherit(0, one_, 1);
  three->inherit(5, two_, 1);
  one_->fail(0, error("disk"));

  EXPECT_EQ(text(three->before(5)), "");
  EXPECT_EQ(text(three->before(6)), "disk");
  EXPECT_EQ(text(two_->before(1)), "disk");
}

TEST_F(QueueFailures, WaitsThatAlternateBetweenTwoQueues_AreLookedUpOnceEach) {
  constexpr std::uint64_t kSteps = 1000;  // each wait followed anew would be 2^1000 of them
  one_->fail(0, error("disk"));
  for (std::uint64_t step = 1; step <= kSteps; ++step) {
    two_->inherit(step, one_, step);
    one_->inherit(step, two_, step);
  }

  EXPECT_EQ(text(two_->before(kSteps + 1)), "disk");
}

TEST_F(QueueFailures, LookedUp_QueuesThatWaitedForEachOtherLetGo) {
  one_->inherit(0, two_, 0);
  two_->inherit(0, one_, 0);
  const std::weak_ptr<QueueFailure> one = one_;

  static_cast<void>(one_->before(std::numeric_limits<std::uint64_t>::max()));
  static_cast<void>(two_->before(std::numeric_limits<std::uint64_t>::max()));
  one_.reset();

  EXPECT_TRUE(one.expired());
}

}  // namespace
}  // namespace spillway::cuda
