// SPDX-License-Identifier: Apache-2.0
#include "core/unique_handle.hpp"

#include <type_traits>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spillway {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<int> destroyed;

struct NumberTraits {
  using Handle = int;
  static Handle null() noexcept { return -1; }
  static void destroy(Handle handle) noexcept { destroyed.push_back(handle); }
};
using Number = UniqueHandle<NumberTraits>;

static_assert(!std::is_copy_constructible_v<Number> && !std::is_copy_assignable_v<Number>);
static_assert(std::is_nothrow_move_constructible_v<Number> && std::is_nothrow_move_assignable_v<Number>);

class UniqueHandleTest : public testing::Test {
 protected:
  void SetUp() override { destroyed.clear(); }
};

TEST_F(UniqueHandleTest, DestroysItsHandleOnceAtTheEndOfItsScope) {
  {
    const Number number(7);
    EXPECT_EQ(number.get(), 7);
    EXPECT_TRUE(number);
  }

  EXPECT_THAT(destroyed, ElementsAre(7));
}

TEST_F(UniqueHandleTest, NullIsNeverDestroyed) {
  {
    const Number number;
    EXPECT_FALSE(number);
  }

  EXPECT_THAT(destroyed, IsEmpty());
}

TEST_F(UniqueHandleTest, MovingPassesTheHandleOn) {
  Number first(7);

  Number second(std::move(first));

  EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): what is left is part of the contract
  EXPECT_EQ(second.get(), 7);
  EXPECT_THAT(destroyed, IsEmpty());
}

TEST_F(UniqueHandleTest, AssigningDestroysWhatWasThere) {
  Number number(7), other(8);

  number = std::move(other);

  EXPECT_THAT(destroyed, ElementsAre(7));
  EXPECT_EQ(number.get(), 8);
}

TEST_F(UniqueHandleTest, AssigningToItselfKeepsTheHandle) {
  Number number(7);
  Number& same = number;

  number = std::move(same);

  EXPECT_EQ(number.get(), 7);
  EXPECT_THAT(destroyed, IsEmpty());
}

TEST_F(UniqueHandleTest, ResetDestroysOnce) {
  Number number(7);

  number.reset();
  number.reset();

  EXPECT_THAT(destroyed, ElementsAre(7));
}

}  // namespace
}  // namespace spillway
