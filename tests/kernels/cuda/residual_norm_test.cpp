// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/residual_norm.hpp"

#include "kernels/cuda/cuda_fixture.hpp"
#include "kernels/cuda/workspace.hpp"

namespace spillway::kernels::cuda {
namespace {

using test::OnDevice;
using test::OnHost;
using test::Twin;
using test::TwinBatch;

struct Case {
  DType dtype;  // of the norm
  std::int64_t rows, width;
  float probability, output_probability;
  bool branch;
};

class CudaResidualNorm : public test::CudaTest, public testing::WithParamInterface<Case> {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (IsSkipped()) return;
    batch = std::make_unique<TwinBatch>(c.rows);
  }
  Twin rows(DType dtype, std::uint64_t number) const { return Twin::random(dtype, {c.rows, c.width}, number); }
  Twin poisoned_rows(DType dtype) const { return Twin::poison(dtype, {c.rows, c.width}); }

  const Case& c = GetParam();
  Dropout dropout{.probability = c.probability, .key = 11, .site = 3};
  Dropout output_dropout{.probability = c.output_probability, .key = 11, .site = 4};
  std::unique_ptr<TwinBatch> batch;
};

TEST_P(CudaResidualNorm, Forward_IsThatOfTheCpu) {
  Twin hidden_in = rows(DType::f32, 1), branch = rows(branch_dtype(c.dtype), 2),
       weight = Twin::random(c.dtype, {c.width}, 3);
  Twin hidden_out = poisoned_rows(DType::f32), normed = poisoned_rows(c.dtype),
       rstd = Twin::poison(DType::f32, {c.rows});
  const auto op = [&](auto on) {
    return ResidualNorm{.sequences = on(*batch),
                        .hidden_in = on(hidden_in),
                        .branch = c.branch ? on(branch) : TensorView(),
                        .weight = on(weight),
                        .dropout = dropout,
                        .output_dropout = output_dropout,
                        .hidden_out = on(hidden_out),
                        .normed = on(normed),
                        .rstd = on(rstd)};
  };

  run_both([&] { cpu_ops->residual_norm(*host_queue, op(OnHost{})); }, [&] { residual_norm(stream, op(OnDevice{})); },
           {&hidden_out, &normed, &rstd});

  expect_same_bits(hidden_out, "hidden_out");
  expect_close(normed, "normed");
  expect_close(rstd, "rstd");
}

TEST_P(CudaResidualNorm, Forward_InPlace_OrWithoutHiddenOut_GivesTheSame) {
  Twin hidden = rows(DType::f32, 1), branch = rows(branch_dtype(c.dtype), 2),
       weight = Twin::random(c.dtype, {c.width}, 3);
  Twin normed = poisoned_rows(c.dtype), rstd = Twin::poison(DType::f32, {c.rows});
  const auto op = [&](auto on) {
    return ResidualNorm{.sequences = on(*batch),
                        .hidden_in = on(hidden),
                        .branch = c.branch ? on(branch) : TensorView(),
                        .weight = on(weight),
                        .dropout = dropout,
                        .output_dropout = output_dropout,
                        .hidden_out = c.branch ? on(hidden) : TensorView(),
                        .normed = on(normed),
                        .rstd = on(rstd)};
  };

  run_both([&] { cpu_ops->residual_norm(*host_queue, op(OnHost{})); }, [&] { residual_norm(stream, op(OnDevice{})); },
           {&hidden, &normed, &rstd});

  expect_same_bits(hidden, "hidden");
  expect_close(normed, "normed");
}

TEST_P(CudaResidualNorm, Gradient_IsThatOfTheCpu) {
  Twin hidden = rows(DType::f32, 1), d_normed = rows(c.dtype, 2), weight = Twin::random(c.dtype, {c.width}, 3);
  Twin d_hidden = rows(DType::f32, 4), d_branch = poisoned_rows(c.dtype),
       d_weight = Twin::random(DType::f32, {c.width}, 5);
  std::vector<float> scales(static_cast<std::size_t>(c.rows));
  for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = 0.5F + static_cast<float>(i % 7) / 8.0F;
  Twin rstd = Twin::of(DType::f32, {c.rows}, scales);
  const test::DeviceMemory workspace(residual_norm_workspace_bytes(c.width));
  test::require(cudaMemset(workspace.data(), 0xFF, workspace.span().size()));
  const auto op = [&](auto on) {
    return ResidualNormGradient{.sequences = on(*batch),
                                .d_normed = on(d_normed),
                                .hidden = on(hidden),
                                .rstd = on(rstd),
                                .weight = on(weight),
                                .dropout = dropout,
                                .output_dropout = output_dropout,
                                .d_hidden = on(d_hidden),
                                .d_branch = c.branch ? on(d_branch) : TensorView(),
                                .d_weight = on(d_weight)};
  };

  run_both([&] { cpu_ops->residual_norm_gradient(*host_queue, op(OnHost{})); },
           [&] { residual_norm_gradient(stream, workspace.span(), op(OnDevice{})); },
           {&d_hidden, &d_branch, &d_weight});

  expect_close(d_hidden, "d_hidden");
  if (c.branch) expect_close(d_branch, "d_branch");
  expect_close(d_weight, "d_weight");
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, CudaResidualNorm,
    testing::Values(Case{DType::f32, 1, 1, 0.0F, 0.0F, true}, Case{DType::bf16, 1, 5, 0.3F, 0.0F, true},
                    Case{DType::f32, 7, 24, 0.0F, 0.3F, false}, Case{DType::bf16, 37, 147, 0.2F, 0.1F, true},
                    Case{DType::f32, 700, 513, 0.3F, 0.2F, true}, Case{DType::bf16, 700, 512, 0.1F, 0.0F, true},
                    Case{DType::bf16, 300, 1024, 0.0F, 0.0F, false}, Case{DType::f32, 3, 4096, 0.1F, 0.1F, true},
                    Case{DType::f16, 1, 5, 0.3F, 0.0F, true}, Case{DType::f16, 37, 147, 0.2F, 0.1F, true},
                    Case{DType::f16, 700, 512, 0.1F, 0.0F, true}, Case{DType::f16, 300, 1024, 0.0F, 0.1F, false},
                    Case{DType::f32, 0, 8, 0.1F, 0.0F, true}, Case{DType::bf16, 2000, 1024, 0.1F, 0.0F, true},
                    Case{DType::bf16, 900, 1032, 0.1F, 0.2F, true}, Case{DType::bf16, 5, 4104, 0.1F, 0.2F, true},
                    Case{DType::f16, 2000, 1024, 0.1F, 0.0F, true}, Case{DType::f16, 5, 4104, 0.1F, 0.2F, true},
                    Case{DType::f32, 3, 9001, 0.1F, 0.2F, true}));

}  // namespace
}  // namespace spillway::kernels::cuda
