// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/linear.hpp"

#include <cmath>

#include "kernels/cuda/cuda_fixture.hpp"
#include "kernels/cuda/workspace.hpp"

namespace spillway::kernels::cuda {
namespace {

using test::OnDevice;
using test::OnHost;
using test::Twin;

struct Case {
  DType dtype, wide;  // of weights and activations; of y or dy
  std::int64_t rows, in, out;
};

class CudaLinear : public test::CudaTest, public testing::WithParamInterface<Case> {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (IsSkipped()) return;
    workspace = std::make_unique<test::DeviceMemory>(kProductBytes + kPieceBytes);
    products = std::make_unique<MatrixProducts>(workspace->span(), ModelOpsOptions{});
  }
  [[nodiscard]] std::span<std::byte> pieces() const { return workspace->span().subspan(kProductBytes); }
  /// Sums of up to a few thousand products in fp32, which tensor cores do not round to nearest. That a dy in f32 were rounded to 16 bits
  /// on the way would be 1e-3 or 2e-4.
  void expect_product(const Twin& twin, const std::string& what, Output output = Output::overwrite) const {
    // What is added to a result in 16 bits may be rounded before: a place off in a quarter of the elements.
    if (twin.dtype() == DType::bf16)
      return expect_close(twin, {.whole = output == Output::add ? 4e-3 : 1e-3, .element = 1.0 / 128}, what);
    if (twin.dtype() == DType::f16)
      return expect_close(twin, {.whole = output == Output::add ? 1e-3 : 5e-4, .element = 1.0 / 512}, what);
    const double rounding = c.dtype == DType::f32 ? 5e-6 : 3e-5;
    expect_close(twin, {.whole = rounding, .element = 4 * rounding}, what);
  }

  const Case& c = GetParam();
  std::unique_ptr<test::DeviceMemory> workspace;
  std::unique_ptr<MatrixProducts> products;
};

TEST_P(CudaLinear, Forward_IsThatOfTheCpu) {
  for (const Output output : {Output::overwrite, Output::add}) {
    const Shape shape{c.rows, c.out};
    Twin x = Twin::random(c.dtype, {c.rows, c.in}, 1), w = Twin::random(c.dtype, {c.out, c.in}, 2);
    Twin y = output == Output::add ? Twin::random(c.wide, shape, 3) : Twin::poison(c.wide, shape);
    const auto op = [&](auto on) {
      return Linear{.x = on(x), .w = on(w), .y = on(y), .alpha = 0.5F, .output = output};
    };

    run_both([&] { cpu_ops->linear(*host_queue, op(OnHost{})); }, [&] { linear(stream, *products, op(OnDevice{})); },
             {&y});

    expect_product(y, output == Output::add ? "y added to" : "y", output);
  }
}

TEST_P(CudaLinear, WithRelu_IsThatOfTheCpu) {
  for (const Output output : {Output::overwrite, Output::add}) {
    const Shape shape{c.rows, c.out};
    Twin x = Twin::random(c.dtype, {c.rows, c.in}, 1), w = Twin::random(c.dtype, {c.out, c.in}, 2);
    Twin y = output == Output::add ? Twin::random(c.dtype, shape, 3) : Twin::poison(c.dtype, shape);
    const auto op = [&](auto on) {
      return Linear{.x = on(x), .w = on(w), .y = on(y), .alpha = 0.5F, .output = output, .relu = true};
    };

    run_both([&] { cpu_ops->linear(*host_queue, op(OnHost{})); }, [&] { linear(stream, *products, op(OnDevice{})); },
             {&y});

    expect_product(y, output == Output::add ? "y added to" : "y", output);
  }
}

TEST_P(CudaLinear, InputGradient_IsThatOfTheCpu) {
  for (const Output output : {Output::overwrite, Output::add}) {
    const Shape shape{c.rows, c.in};
    Twin dy = Twin::random(c.wide, {c.rows, c.out}, 1), w = Twin::random(c.dtype, {c.out, c.in}, 2);
    Twin dx = output == Output::add ? Twin::random(c.dtype, shape, 3) : Twin::poison(c.dtype, shape);
    const auto op = [&](auto on) {
      return LinearInputGradient{.dy = on(dy), .w = on(w), .dx = on(dx), .alpha = 0.5F, .output = output};
    };

    run_both([&] { cpu_ops->linear_input_gradient(*host_queue, op(OnHost{})); },
             [&] { linear_input_gradient(stream, *products, pieces(), op(OnDevice{})); }, {&dx});

    expect_product(dx, output == Output::add ? "dx added to" : "dx", output);
  }
}

TEST_P(CudaLinear, WeightGradient_IsThatOfTheCpu) {
  for (const Output output : {Output::overwrite, Output::add}) {
    const Shape shape{c.out, c.in};
    Twin dy = Twin::random(c.wide, {c.rows, c.out}, 1), x = Twin::random(c.dtype, {c.rows, c.in}, 2);
    Twin dw = output == Output::add ? Twin::random(DType::f32, shape, 3) : Twin::poison(DType::f32, shape);
    const auto op = [&](auto on) {
      return LinearWeightGradient{.dy = on(dy), .x = on(x), .dw = on(dw), .alpha = 0.5F, .output = output};
    };

    run_both([&] { cpu_ops->linear_weight_gradient(*host_queue, op(OnHost{})); },
             [&] { linear_weight_gradient(stream, *products, pieces(), op(OnDevice{})); }, {&dw});

    expect_product(dw, output == Output::add ? "dw added to" : "dw");
  }
}

/// dw in the dtype of dy and x.
class CudaNarrowWeightGradient : public CudaLinear {};

TEST_P(CudaNarrowWeightGradient, IsThatOfTheCpu) {
  Twin dy = Twin::random(c.dtype, {c.rows, c.out}, 1), x = Twin::random(c.dtype, {c.rows, c.in}, 2);
  Twin dw = Twin::poison(c.dtype, {c.out, c.in});
  const auto op = [&](auto on) {
    return LinearWeightGradient{.dy = on(dy), .x = on(x), .dw = on(dw), .alpha = 0.5F, .output = Output::overwrite};
  };

  run_both([&] { cpu_ops->linear_weight_gradient(*host_queue, op(OnHost{})); },
           [&] { linear_weight_gradient(stream, *products, pieces(), op(OnDevice{})); }, {&dw});

  expect_product(dw, "dw");
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, CudaLinear,
    testing::Values(Case{DType::f32, DType::f32, 1, 1, 1}, Case{DType::f32, DType::f32, 37, 147, 51},
                    Case{DType::f32, DType::f32, 130, 512, 384}, Case{DType::bf16, DType::bf16, 1, 5, 3},
                    Case{DType::bf16, DType::bf16, 37, 147, 51}, Case{DType::bf16, DType::bf16, 130, 512, 384},
                    Case{DType::bf16, DType::bf16, 300, 24, 12}, Case{DType::bf16, DType::f32, 37, 147, 51},
                    Case{DType::bf16, DType::f32, 130, 64, 1000}, Case{DType::bf16, DType::f32, 600, 16, 32128},
                    Case{DType::f16, DType::f16, 1, 5, 3}, Case{DType::f16, DType::f16, 37, 147, 51},
                    Case{DType::f16, DType::f16, 130, 512, 384}, Case{DType::f16, DType::f32, 37, 147, 51},
                    Case{DType::f16, DType::f32, 130, 64, 1000}, Case{DType::f16, DType::f32, 600, 16, 32128},
                    Case{DType::f32, DType::f32, 0, 8, 8}, Case{DType::bf16, DType::f32, 0, 8, 8}));

INSTANTIATE_TEST_SUITE_P(
    Shapes, CudaNarrowWeightGradient,
    testing::Values(Case{DType::f32, DType::f32, 37, 147, 51}, Case{DType::bf16, DType::bf16, 1, 5, 3},
                    Case{DType::bf16, DType::bf16, 37, 147, 51}, Case{DType::bf16, DType::bf16, 130, 512, 384},
                    Case{DType::f16, DType::f16, 37, 147, 51}, Case{DType::f16, DType::f16, 130, 512, 384}));

using CudaLinearWithRelu = test::CudaTest;

TEST_F(CudaLinearWithRelu, NaNStaysNaN) {
  const test::DeviceMemory workspace(kProductBytes + kPieceBytes);
  MatrixProducts products(workspace.span(), {});
  for (const std::int64_t rows : {1, 5, 80, 160}) {
    Twin x = Twin::random(DType::bf16, {rows, 64}, 1);
    Twin w = Twin::of(DType::bf16, {128, 64}, std::vector<float>(128 * 64, std::numeric_limits<float>::quiet_NaN()));
    Twin y = Twin::random(DType::bf16, {rows, 128}, 2);

    linear(stream, products, {.x = x.device(), .w = w.device(), .y = y.device(), .relu = true});
    synchronize();

    for (const double value : y.found()) ASSERT_TRUE(std::isnan(value)) << rows << " rows";
  }
}

using CudaLinearInF16 = test::CudaTest;

TEST_F(CudaLinearInF16, ASumThatF16CannotHold_IsInfinity_AndInF32ItIsThere) {
  const test::DeviceMemory workspace(kProductBytes + kPieceBytes);
  MatrixProducts products(workspace.span(), {});
  const std::vector<float> hundreds(64, 300.0F);
  Twin x = Twin::of(DType::f16, {1, 64}, hundreds), w = Twin::of(DType::f16, {1, 64}, hundreds);
  Twin narrow = Twin::poison(DType::f16, {1, 1}), wide = Twin::poison(DType::f32, {1, 1});

  linear(stream, products, {.x = x.device(), .w = w.device(), .y = narrow.device()});
  linear(stream, products, {.x = x.device(), .w = w.device(), .y = wide.device()});
  synchronize();

  EXPECT_EQ(narrow.found()[0], std::numeric_limits<double>::infinity());
  EXPECT_EQ(wide.found()[0], 64.0 * 300.0 * 300.0);
}

TEST_F(CudaLinearInF16, AWeightGradientThatF16CannotHold_IsInfinity) {
  const test::DeviceMemory workspace(kProductBytes + kPieceBytes);
  MatrixProducts products(workspace.span(), {});
  const std::vector<float> hundreds(64, 300.0F);
  Twin dy = Twin::of(DType::f16, {64, 1}, hundreds), x = Twin::of(DType::f16, {64, 1}, hundreds);
  Twin dw = Twin::poison(DType::f16, {1, 1});

  linear_weight_gradient(stream, products, workspace.span().subspan(kProductBytes),
                         {.dy = dy.device(), .x = x.device(), .dw = dw.device(), .output = Output::overwrite});
  synchronize();

  EXPECT_EQ(dw.found()[0], std::numeric_limits<double>::infinity());
}

// A gradient of a loss that is scaled up has numbers of very different sizes: the small ones must not be lost beside f16's weights.
TEST_F(CudaLinearInF16, AGradientInF32_KeepsWhatF16WouldRoundToZero) {
  const test::DeviceMemory workspace(kProductBytes + kPieceBytes);
  MatrixProducts products(workspace.span(), {});
  Twin dy = Twin::of(DType::f32, {3, 1}, {1e-9F, 6e4F, -3e-8F}), x = Twin::of(DType::f16, {3, 1}, {1.0F, 0.0F, 0.5F});
  Twin dw = Twin::of(DType::f32, {1, 1}, {0.0F});

  linear_weight_gradient(stream, products, workspace.span().subspan(kProductBytes),
                         {.dy = dy.device(), .x = x.device(), .dw = dw.device()});
  synchronize();

  EXPECT_NEAR(dw.found()[0], 1e-9 - 1.5e-8, 1e-13);
}

}  // namespace
}  // namespace spillway::kernels::cuda
