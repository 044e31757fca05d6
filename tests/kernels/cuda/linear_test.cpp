// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/linear.hpp"

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
  /// Sums of up to a few thousand products in fp32, which tensor cores do not round to nearest. That a dy in f32 were rounded to bf16
  /// on the way would be 1e-3.
  void expect_product(const Twin& twin, const std::string& what, Output output = Output::overwrite) const {
    // What is added to a bf16 result may be rounded before: a place off in a quarter of the elements.
    if (twin.dtype() == DType::bf16)
      return expect_close(twin, {.whole = output == Output::add ? 4e-3 : 1e-3, .element = 1.0 / 128}, what);
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

INSTANTIATE_TEST_SUITE_P(
    Shapes, CudaLinear,
    testing::Values(Case{DType::f32, DType::f32, 1, 1, 1}, Case{DType::f32, DType::f32, 37, 147, 51},
                    Case{DType::f32, DType::f32, 130, 512, 384}, Case{DType::bf16, DType::bf16, 1, 5, 3},
                    Case{DType::bf16, DType::bf16, 37, 147, 51}, Case{DType::bf16, DType::bf16, 130, 512, 384},
                    Case{DType::bf16, DType::bf16, 300, 24, 12}, Case{DType::bf16, DType::f32, 37, 147, 51},
                    Case{DType::bf16, DType::f32, 130, 64, 1000}, Case{DType::bf16, DType::f32, 600, 16, 32128},
                    Case{DType::f32, DType::f32, 0, 8, 8}, Case{DType::bf16, DType::f32, 0, 8, 8}));

}  // namespace
}  // namespace spillway::kernels::cuda
