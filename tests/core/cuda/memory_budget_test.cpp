// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/memory_budget.hpp"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.hpp"

namespace spillway::cuda {
namespace {

TEST(MemoryBudget, SharesAreCountedWhileTheyLive) {
  const auto budget = std::make_shared<MemoryBudget>(100);

  auto first = budget->take(60);
  const auto second = budget->take(40);
  const std::size_t with_both = budget->used();
  first.reset();

  EXPECT_EQ(with_both, 100U);
  EXPECT_EQ(budget->used(), 40U);
}

TEST(MemoryBudget, MoreThanIsLeft_IsRefusedWithTheNumbersAndTakesNothing) {
  const auto budget = std::make_shared<MemoryBudget>(100);
  const auto share = budget->take(61);

  try {
    static_cast<void>(budget->take(40));
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "device memory: 40 bytes asked, 61 used, the budget is 100");
    EXPECT_EQ(error.exit_code(), ExitCode::failure);
  }
  EXPECT_THROW(static_cast<void>(budget->take(std::numeric_limits<std::size_t>::max())), Error);
  EXPECT_EQ(budget->used(), 61U);
}

TEST(MemoryBudget, AShareOutlivesIt) {
  auto budget = std::make_shared<MemoryBudget>(100);
  auto share = budget->take(60);

  budget.reset();

  EXPECT_NO_THROW(share.reset());
}

}  // namespace
}  // namespace spillway::cuda
