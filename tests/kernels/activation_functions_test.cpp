// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/activation_functions.hpp"

#include <array>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cpu/instruction_set.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr std::int64_t kCount = 60016;

struct Table {
  std::vector<float> x, y, slope;
  Table() : y(kCount), slope(kCount) {
    for (std::int64_t i = 0; i < kCount; ++i) x.push_back(static_cast<float>(i - kCount / 2) / 1000.0F);
  }
};

template <typename Function>
[[gnu::always_inline]] inline void fill(Table* const& table) {
  for (std::size_t i = 0; i < kCount; i += kLanes) {
    store(table->y.data() + i, value_of<Function>(load(table->x.data() + i)));
    store(table->slope.data() + i, slope_of<Function>(load(table->x.data() + i)));
  }
}

double logistic(double x) { return 1.0 / (1.0 + std::exp(-x)); }

template <typename Function>
struct Formula;
template <>
struct Formula<Relu> {
  static double value(double x) { return x > 0.0 ? x : 0.0; }
};
template <>
struct Formula<ReluSquared> {
  static double value(double x) { return x > 0.0 ? x * x : 0.0; }
};
template <>
struct Formula<Gelu> {
  static double value(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }
};
template <>
struct Formula<GeluNew> {
  static double value(double x) {
    return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
  }
};
template <>
struct Formula<QuickGelu> {
  static double value(double x) { return x * logistic(1.702 * x); }
};
template <>
struct Formula<Silu> {
  static double value(double x) { return x * logistic(x); }
};
template <>
struct Formula<Sigmoid> {
  static double value(double x) { return logistic(x); }
};
template <>
struct Formula<Tanh> {
  static double value(double x) { return std::tanh(x); }
};
template <>
struct Formula<Mish> {
  static double value(double x) { return x * std::tanh(std::log1p(std::exp(x))); }
};

template <typename Function>
class ActivationFunctions : public ::testing::Test {};
using Functions = ::testing::Types<Relu, ReluSquared, Gelu, GeluNew, QuickGelu, Silu, Sigmoid, Tanh, Mish>;
TYPED_TEST_SUITE(ActivationFunctions, Functions);

TYPED_TEST(ActivationFunctions, ValueAndSlope_AreThoseOfTheFormula) {
  Table table;
  Table* const pointer = &table;

  vectorised<fill<TypeParam>>(pointer);

  for (std::size_t i = 0; i < kCount; ++i) {
    const auto x = static_cast<double>(table.x[i]);
    const double expected = Formula<TypeParam>::value(x);
    ASSERT_NEAR(static_cast<double>(table.y[i]), expected, 3e-7 * std::max({1.0, std::abs(x), std::abs(expected)}))
        << "x = " << x;
    if (x == 0.0) continue;  // relu's kink
    const double h = 1e-5;
    const double slope = (Formula<TypeParam>::value(x + h) - Formula<TypeParam>::value(x - h)) / (2.0 * h);
    ASSERT_NEAR(static_cast<double>(table.slope[i]), slope, 2e-6 * std::max(1.0, std::abs(slope))) << "x = " << x;
  }
}

TYPED_TEST(ActivationFunctions, OnEveryInstructionSet_GiveTheSameBits) {
  Table baseline;
  Table* const pointer = &baseline;
  vectorised_for<fill<TypeParam>>(InstructionSet::baseline, pointer);

  for (const InstructionSet set : {InstructionSet::avx2, InstructionSet::avx512}) {
    if (!supported(set)) continue;
    Table table;
    Table* const other = &table;
    vectorised_for<fill<TypeParam>>(set, other);
    EXPECT_EQ(table.y, baseline.y);
    EXPECT_EQ(table.slope, baseline.slope);
  }
}

TYPED_TEST(ActivationFunctions, FarOut_AreFinite_AndNaNStays) {
  for (const float x : {-3e4F, -100.0F, 100.0F, 3e4F}) {
    const Lanes lanes = all_lanes(x);
    EXPECT_TRUE(std::isfinite(value_of<TypeParam>(lanes)[0])) << x;
    EXPECT_TRUE(std::isfinite(slope_of<TypeParam>(lanes)[0])) << x;
  }
  EXPECT_TRUE(std::isnan(value_of<TypeParam>(all_lanes(NAN))[0]));
}

template <typename Function>
void expect_values(const std::array<float, 5>& wanted) {
  const std::array<float, 5> x = {-3.0F, -0.75F, 0.1F, 1.5F, 4.0F};
  for (std::size_t i = 0; i < x.size(); ++i)
    EXPECT_NEAR(value_of<Function>(all_lanes(x[i]))[0], wanted[i], 1e-6F) << x[i];
}

TEST(ActivationValues, AreThoseOfTransformers) {
  // ACT2FN of transformers 5.23 with torch 2.11, in fp32.
  expect_values<Relu>({0.0F, 0.0F, 0.1F, 1.5F, 4.0F});
  expect_values<ReluSquared>({0.0F, 0.0F, 0.01F, 2.25F, 16.0F});
  expect_values<Gelu>({-0.00405022502F, -0.169970512F, 0.0539827831F, 1.39978909F, 3.99987364F});
  expect_values<GeluNew>({-0.00363743305F, -0.170039445F, 0.0539827533F, 1.39957154F, 3.9999299F});
  expect_values<QuickGelu>({-0.0180713106F, -0.163609952F, 0.0542447567F, 1.39166224F, 3.99558496F});
  expect_values<Silu>({-0.142277613F, -0.240615964F, 0.0524979196F, 1.22636163F, 3.92805505F});
  expect_values<Sigmoid>({0.0474258736F, 0.320821285F, 0.524979174F, 0.817574441F, 0.982013762F});
  expect_values<Tanh>({-0.995054781F, -0.635148942F, 0.0996679962F, 0.905148268F, 0.999329329F});
  expect_values<Mish>({-0.145647466F, -0.276494741F, 0.0631794184F, 1.40337825F, 3.99741292F});
}

TEST(Tanh, NearZero_KeepsItsRelativePrecision) {
  for (const float x : {1e-6F, -1e-4F, 0.01F, -0.5F, 0.62F, 0.63F}) {
    const double expected = std::tanh(static_cast<double>(x));
    EXPECT_NEAR(static_cast<double>(value_of<Tanh>(all_lanes(x))[0]), expected, 2e-7 * std::abs(expected)) << x;
  }
}

}  // namespace
}  // namespace spillway::kernels::cpu
