// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/elementwise.hpp"

#include "kernels/cuda/cuda_fixture.hpp"

namespace spillway::kernels::cuda {
namespace {

using test::OnDevice;
using test::OnHost;
using test::Twin;
using test::TwinBatch;

struct Case {
  DType dtype;  // of weights and of gradients that go into products
  std::int64_t rows, width;
  float probability;
};

class CudaElementwise : public test::CudaTest, public testing::WithParamInterface<Case> {
 protected:
  const Case& c = GetParam();
  Dropout dropout{.probability = c.probability, .key = 0x123456789ABCULL, .site = 9};
};

// Nothing is summed: masks and all, the bits are the CPU's.
TEST_P(CudaElementwise, ResidualAdd_HasTheBitsOfTheCpu) {
  TwinBatch batch(c.rows);
  Twin hidden = Twin::random(DType::f32, {c.rows, c.width}, 1);
  Twin branch = Twin::random(branch_dtype(c.dtype), {c.rows, c.width}, 2);
  Twin out = Twin::poison(DType::f32, {c.rows, c.width});
  const auto op = [&](auto on) {
    return ResidualAdd{.sequences = on(batch),
                       .hidden_in = on(hidden),
                       .branch = on(branch),
                       .dropout = dropout,
                       .hidden_out = on(out)};
  };

  run_both([&] { cpu_ops->residual_add(*host_queue, op(OnHost{})); }, [&] { residual_add(stream, op(OnDevice{})); },
           {&out});

  expect_same_bits(out, "hidden_out");
}

TEST_P(CudaElementwise, ResidualAddGradient_HasTheBitsOfTheCpu) {
  TwinBatch batch(c.rows);
  Twin d_hidden = Twin::random(DType::f32, {c.rows, c.width}, 1), d_branch = Twin::poison(c.dtype, {c.rows, c.width});
  const auto op = [&](auto on) {
    return ResidualAddGradient{
        .sequences = on(batch), .d_hidden = on(d_hidden), .dropout = dropout, .d_branch = on(d_branch)};
  };

  run_both([&] { cpu_ops->residual_add_gradient(*host_queue, op(OnHost{})); },
           [&] { residual_add_gradient(stream, op(OnDevice{})); }, {&d_branch});

  expect_same_bits(d_branch, "d_branch");
}

TEST_P(CudaElementwise, AddAndConvert_HaveTheBitsOfTheCpu) {
  Twin from = Twin::random(c.dtype, {c.rows, c.width}, 1), to = Twin::random(DType::f32, {c.rows, c.width}, 2);
  Twin narrow = Twin::poison(DType::bf16, {c.rows, c.width}), wide = Twin::poison(DType::f32, {c.rows, c.width});
  Twin half = Twin::poison(DType::f16, {c.rows, c.width});

  run_both([&] { cpu_ops->add(*host_queue, from.host(), to.host()); }, [&] { add(stream, from.device(), to.device()); },
           {&to});
  run_both([&] { cpu_ops->convert(*host_queue, from.host(), narrow.host()); },
           [&] { convert(stream, from.device(), narrow.device()); }, {&narrow});
  run_both([&] { cpu_ops->convert(*host_queue, from.host(), wide.host()); },
           [&] { convert(stream, from.device(), wide.device()); }, {&wide});

  run_both([&] { cpu_ops->convert(*host_queue, from.host(), half.host()); },
           [&] { convert(stream, from.device(), half.device()); }, {&half});

  expect_same_bits(to, "add");
  expect_same_bits(half, "convert to f16");
  expect_same_bits(narrow, "convert to bf16");
  expect_same_bits(wide, "convert to f32");
}

TEST_P(CudaElementwise, FillZero_LeavesZeros) {
  Twin tensor = Twin::poison(c.dtype, {c.rows, c.width});

  run_both([&] { cpu_ops->fill_zero(*host_queue, tensor.host()); }, [&] { fill_zero(stream, tensor.device()); },
           {&tensor});

  expect_same_bits(tensor, "fill_zero");
}

using CudaConvert = test::CudaTest;

// What marks an overflow: the largest f16 is 65504, and from half a place above it on there is nothing but infinity.
TEST_F(CudaConvert, WhatF16CannotHold_IsInfinity) {
  const double infinity = std::numeric_limits<double>::infinity();
  Twin from = Twin::of(DType::f32, {1, 6}, {65504.0F, 65519.0F, 65520.0F, -1e30F, 3e-8F, 2e-8F});
  Twin to = Twin::poison(DType::f16, {1, 6});

  convert(stream, from.device(), to.device());
  synchronize();

  EXPECT_EQ(to.found(), (std::vector<double>{65504.0, 65504.0, infinity, -infinity, 0x1p-24, 0.0}));
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudaElementwise,
                         testing::Values(Case{DType::f32, 1, 1, 0.0F}, Case{DType::bf16, 1, 1, 0.5F},
                                         Case{DType::f32, 37, 147, 0.3F}, Case{DType::bf16, 37, 147, 0.3F},
                                         Case{DType::f32, 5, 12, 0.1F}, Case{DType::bf16, 5, 12, 0.1F},
                                         Case{DType::f32, 300, 512, 0.1F}, Case{DType::bf16, 300, 512, 0.1F},
                                         Case{DType::bf16, 300, 513, 0.0F}, Case{DType::f16, 37, 147, 0.3F},
                                         Case{DType::f16, 300, 512, 0.1F}, Case{DType::f32, 0, 8, 0.1F}));

}  // namespace
}  // namespace spillway::kernels::cuda
