// SPDX-License-Identifier: Apache-2.0
#include "core/tensor_view.hpp"

#include <array>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.hpp"

namespace spillway {
namespace {

using testing::ElementsAre;

class Views : public testing::Test {
 protected:
  Views() { std::iota(values_.begin(), values_.end(), 0.0F); }
  std::array<float, 12> values_{};
  TensorView view_{std::span<float>(values_), {3, 4}};
};

TEST(Shape, KnowsItsAxes) {
  const Shape shape{3, 24};

  EXPECT_EQ(shape.rank(), 2);
  EXPECT_EQ(shape[1], 24);
  EXPECT_EQ(shape.elements(), 72);
  EXPECT_EQ(shape.text(), "(3, 24)");
  EXPECT_EQ(Shape().elements(), 1);
  EXPECT_EQ(Shape({0, 5}).elements(), 0);
  EXPECT_EQ(shape, (Shape{3, 24}));
  EXPECT_NE(shape, (Shape{3, 24, 1}));
  EXPECT_THROW(static_cast<void>(shape[4]), std::out_of_range);
  EXPECT_THROW((Shape{1, 2, 3, 4, 5}), Error);
}

TEST_F(Views, KnowTheirSize) {
  EXPECT_EQ(view_.elements(), 12);
  EXPECT_EQ(view_.bytes(), 48U);
  EXPECT_EQ(view_.extent(0), 3);
  EXPECT_EQ(view_.dtype(), DType::f32);
  EXPECT_TRUE(view_);
  EXPECT_FALSE(ConstTensorView());
}

TEST_F(Views, OfASpanMustHaveItsNumberOfElements) {
  EXPECT_THROW(TensorView(std::span<float>(values_), {3, 5}), Error);
  EXPECT_THROW(ConstTensorView(std::span<const float>(values_), {11}), Error);
}

TEST_F(Views, ReadAndWriteInPlace) {
  view_.as<float>()[5] = 50.0F;

  EXPECT_EQ(values_[5], 50.0F);
  EXPECT_EQ(ConstTensorView(view_).as<float>()[5], 50.0F);
}

TEST_F(Views, OfAnotherTypeAreRefused) {
  EXPECT_THROW(static_cast<void>(view_.as<std::int32_t>()), Error);
  EXPECT_THROW(static_cast<void>(ConstTensorView(view_).as<double>()), Error);
}

TEST_F(Views, RowsAreTheRangeOfTheFirstAxis) {
  const TensorView rows = view_.rows(1, 3);

  EXPECT_EQ(rows.shape(), (Shape{2, 4}));
  EXPECT_THAT(rows.as<float>(), ElementsAre(4, 5, 6, 7, 8, 9, 10, 11));
  EXPECT_EQ(view_.rows(3, 3).elements(), 0);
}

TEST_F(Views, RowsOutOfRangeAreRefused) {
  EXPECT_THROW(static_cast<void>(view_.rows(1, 4)), Error);
  EXPECT_THROW(static_cast<void>(view_.rows(-1, 2)), Error);
  EXPECT_THROW(static_cast<void>(view_.rows(2, 1)), Error);
  EXPECT_THROW(static_cast<void>(view_.reshape({12}).rows(0, 13)), Error);
  EXPECT_THROW(static_cast<void>(TensorView(view_.data(), DType::f32, Shape()).rows(0, 0)), Error);
}

TEST_F(Views, ReshapeKeepsTheElements) {
  EXPECT_EQ(view_.reshape({2, 6}).as<float>()[7], 7.0F);
  EXPECT_THROW(static_cast<void>(view_.reshape({2, 5})), Error);
}

TEST_F(Views, FlatIsARangeOfElements) {
  EXPECT_THAT(view_.flat(3, 4).as<float>(), ElementsAre(3, 4, 5, 6));
  EXPECT_EQ(view_.flat(12, 0).elements(), 0);
  EXPECT_THROW(static_cast<void>(view_.flat(10, 3)), Error);
  EXPECT_THROW(static_cast<void>(view_.flat(-1, 3)), Error);
}

}  // namespace
}  // namespace spillway
