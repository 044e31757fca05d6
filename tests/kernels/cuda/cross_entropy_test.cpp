// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cross_entropy.hpp"

#include "kernels/cuda/cuda_fixture.hpp"

namespace spillway::kernels::cuda {
namespace {

using test::OnDevice;
using test::OnHost;
using test::Twin;

struct Case {
  std::int64_t rows, vocabulary;
  float label_smoothing, gradient_scale, spread;
};

class CudaCrossEntropy : public test::CudaTest, public testing::WithParamInterface<Case> {};

TEST_P(CudaCrossEntropy, LossesAndGradient_AreThoseOfTheCpu) {
  const Case& c = GetParam();
  std::vector<std::int32_t> numbers;
  for (std::int64_t row = 0; row < c.rows; ++row)
    numbers.push_back(static_cast<std::int32_t>(row == 0 ? c.vocabulary - 1 : row * 7919 % c.vocabulary));
  Twin labels = Twin::integers(numbers), logits = Twin::random(DType::f32, {c.rows, c.vocabulary}, 1, c.spread),
       losses = Twin::poison(DType::f32, {c.rows});
  const auto op = [&](auto on) {
    return CrossEntropy{.logits = on(logits),
                        .labels = on(labels),
                        .label_smoothing = c.label_smoothing,
                        .gradient_scale = c.gradient_scale,
                        .losses = on(losses)};
  };

  run_both([&] { cpu_ops->cross_entropy(*host_queue, op(OnHost{})); }, [&] { cross_entropy(stream, op(OnDevice{})); },
           {&logits, &losses});

  // e^x of a difference of 100 in fp32 has an error of 100 times the rounding of the difference.
  const double rounding = c.spread > 10.0F ? 2e-5 : 2e-6;
  expect_close(losses, {.whole = rounding, .element = rounding}, "losses");
  if (c.gradient_scale == 0.0F) {
    expect_same_bits(logits, "logits that no gradient replaces");
  } else {
    expect_close(logits, {.whole = 1e-5, .element = 2e-5}, "gradient");
  }
}

/// Cases with a gradient.
class CudaCrossEntropyGradient : public CudaCrossEntropy {};

TEST_P(CudaCrossEntropyGradient, GradientElsewhere_IsTheOneInPlace_RoundedOnceToBf16) {
  const Case& c = GetParam();
  const std::vector<std::int32_t> numbers(static_cast<std::size_t>(c.rows),
                                          static_cast<std::int32_t>(c.vocabulary / 2));
  const Shape shape{c.rows, c.vocabulary};
  Twin labels = Twin::integers(numbers), logits = Twin::random(DType::f32, shape, 1, c.spread),
       losses = Twin::poison(DType::f32, {c.rows}), in_place = Twin::random(DType::f32, shape, 1, c.spread),
       full = Twin::poison(DType::f32, shape), half = Twin::poison(DType::bf16, shape);
  const auto run = [&](Twin& on, TensorView gradient) {
    cross_entropy(stream, {.logits = on.device(),
                           .labels = labels.device(),
                           .label_smoothing = c.label_smoothing,
                           .gradient_scale = c.gradient_scale,
                           .losses = losses.device(),
                           .gradient = gradient});
    synchronize();
  };

  run(in_place, {});
  const std::vector<std::byte> expected_losses = losses.device_bytes();
  run(logits, full.device());
  logits.reset();
  run(logits, half.device());

  EXPECT_EQ(full.device_bytes(), in_place.device_bytes());
  EXPECT_EQ(losses.device_bytes(), expected_losses);
  std::vector<float> values;
  for (const double value : in_place.found()) values.push_back(static_cast<float>(value));
  EXPECT_EQ(half.device_bytes(), Twin::of(DType::bf16, shape, values).device_bytes());
}

const auto kWithGradient =
    testing::Values(Case{1, 1, 0.0F, 1.0F, 1.0F}, Case{3, 5, 0.1F, 1.0F, 1.0F}, Case{17, 384, 0.1F, 0.25F, 3.0F},
                    Case{9, 32128, 0.1F, 1e-3F, 5.0F}, Case{9, 32128, 0.0F, 1e-3F, 30.0F},
                    Case{3, 1001, 0.2F, 1.0F, 2.0F}, Case{3, 18436, 0.0F, 1.0F, 2.0F}, Case{3, 32770, 0.1F, 1.0F, 2.0F},
                    Case{2, 250112, 0.1F, 1.0F, 3.0F}, Case{0, 100, 0.1F, 1.0F, 1.0F});
INSTANTIATE_TEST_SUITE_P(Shapes, CudaCrossEntropy, kWithGradient);
INSTANTIATE_TEST_SUITE_P(WithoutGradient, CudaCrossEntropy, testing::Values(Case{4, 1001, 0.2F, 0.0F, 2.0F}));
INSTANTIATE_TEST_SUITE_P(Shapes, CudaCrossEntropyGradient, kWithGradient);

}  // namespace
}  // namespace spillway::kernels::cuda
