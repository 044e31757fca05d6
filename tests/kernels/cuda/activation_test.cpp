// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/activation.hpp"

#include "kernels/cuda/cuda_fixture.hpp"

namespace spillway::kernels::cuda {
namespace {

using test::OnDevice;
using test::OnHost;
using test::Twin;
using test::TwinBatch;

class CudaActivation : public test::CudaTest,
                       public testing::WithParamInterface<std::tuple<ActivationKind, bool, DType, std::int64_t>> {
 protected:
  static constexpr std::int64_t kRows = 37;
  ActivationKind kind = std::get<0>(GetParam());
  bool gated = std::get<1>(GetParam());
  DType dtype = std::get<2>(GetParam());
  std::int64_t width = std::get<3>(GetParam());
  Dropout dropout{.probability = 0.1F, .key = 5, .site = 2};
  Shape wide{kRows, gated ? 2 * width : width};
};

TEST_P(CudaActivation, Forward_IsThatOfTheCpu) {
  TwinBatch batch(kRows);
  Twin u = Twin::random(dtype, wide, 1, 3.0F), out = Twin::poison(dtype, {kRows, width});
  const auto op = [&](auto on) {
    return Activation{
        .sequences = on(batch), .kind = kind, .gated = gated, .u = on(u), .dropout = dropout, .out = on(out)};
  };

  run_both([&] { cpu_ops->activation(*host_queue, op(OnHost{})); }, [&] { activation(stream, op(OnDevice{})); },
           {&out});

  expect_close(out, "out");
}

TEST_P(CudaActivation, Gradient_IsThatOfTheCpu_InPlaceToo) {
  TwinBatch batch(kRows);
  Twin u = Twin::random(dtype, wide, 1, 3.0F), d_out = Twin::random(dtype, {kRows, width}, 2);
  Twin du = Twin::poison(dtype, wide);
  const auto op = [&](auto on, Twin& to) {
    return ActivationGradient{.sequences = on(batch),
                              .kind = kind,
                              .gated = gated,
                              .u = on(u),
                              .d_out = on(d_out),
                              .dropout = dropout,
                              .du = on(to)};
  };

  run_both([&] { cpu_ops->activation_gradient(*host_queue, op(OnHost{}, du)); },
           [&] { activation_gradient(stream, op(OnDevice{}, du)); }, {&du});
  activation_gradient(stream, op(OnDevice{}, u));
  synchronize();

  expect_close(du, "du");
  EXPECT_EQ(u.device_bytes(), du.device_bytes()) << "in place";
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, CudaActivation,
    testing::Combine(testing::Values(ActivationKind::relu, ActivationKind::relu_squared, ActivationKind::gelu,
                                     ActivationKind::gelu_new, ActivationKind::quick_gelu, ActivationKind::silu,
                                     ActivationKind::sigmoid, ActivationKind::tanh, ActivationKind::mish),
                     testing::Bool(), testing::Values(DType::f32, DType::bf16, DType::f16),
                     testing::Values(1, 147, 64, 4120)));

class CudaRelu : public test::CudaTest, public testing::WithParamInterface<std::tuple<DType, std::int64_t>> {};

TEST_P(CudaRelu, MaskIsThatOfTheCpu_AndGivesTheSameGradientAsU) {
  constexpr std::int64_t kRows = 37;
  const auto [dtype, width] = GetParam();
  const Shape shape{kRows, width};
  const Dropout dropout{.probability = 0.1F, .key = 5, .site = 2};
  TwinBatch batch(kRows);
  Twin u = Twin::random(dtype, shape, 1, 3.0F), out = Twin::poison(dtype, shape);
  Twin d_out = Twin::random(dtype, shape, 2), by_u = Twin::poison(dtype, shape);
  Twin mask = Twin::poisoned_bytes({kRows, width / 8});
  const auto forward = [&](auto on, Twin& to) {
    return Activation{.sequences = on(batch), .u = on(u), .dropout = dropout, .out = on(to), .mask = on(mask)};
  };
  const auto backward = [&](auto on) {
    return ActivationGradient{
        .sequences = {}, .d_out = on(d_out), .dropout = dropout, .du = on(d_out), .mask = on(mask)};
  };
  activation_gradient(stream, {.sequences = OnDevice{}(batch),
                               .u = OnDevice{}(u),
                               .d_out = OnDevice{}(d_out),
                               .dropout = dropout,
                               .du = OnDevice{}(by_u)});

  run_both([&] { cpu_ops->activation(*host_queue, forward(OnHost{}, out)); },
           [&] { activation(stream, forward(OnDevice{}, out)); }, {&out, &mask});
  activation(stream, forward(OnDevice{}, u));
  run_both([&] { cpu_ops->activation_gradient(*host_queue, backward(OnHost{})); },
           [&] { activation_gradient(stream, backward(OnDevice{})); }, {&d_out});

  expect_same_bits(mask, "mask");
  expect_close(out, "out");
  expect_close(d_out, "du");
  EXPECT_EQ(u.device_bytes(), out.device_bytes()) << "in place";
  EXPECT_EQ(d_out.device_bytes(), by_u.device_bytes());
}

INSTANTIATE_TEST_SUITE_P(Storage, CudaRelu,
                         testing::Combine(testing::Values(DType::f32, DType::bf16, DType::f16),
                                          testing::Values(8, 64, 4120)));

}  // namespace
}  // namespace spillway::kernels::cuda
