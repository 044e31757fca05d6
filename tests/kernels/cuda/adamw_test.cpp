// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/adamw.hpp"

#include "kernels/cpu/adamw.hpp"
#include "kernels/cpu/state_codec.hpp"
#include "kernels/cpu/sum_of_squares.hpp"
#include "kernels/cuda/gpu_copies.hpp"
#include "kernels/cuda/sum_of_squares.hpp"
#include "kernels/state_fixtures.hpp"

namespace spillway::kernels::cuda {
namespace {

using test::flat;
using test::normals;
using test::same_bits;
using AdamWOnGpu = test::GpuTest;

constexpr DType kStates[] = {DType::f32, DType::bf16, DType::u8};

struct Case {
  DType exp_avg, exp_avg_sq;
  bool compact;  // parameters in 2 + 2 bytes and gradients in bf16
  std::size_t count;
  std::int64_t first;
};

struct Training {
  explicit Training(const Case& what)
      : given(what),
        plain(normals(what.count, 1)),
        split(what.count),
        exp_avg(what.exp_avg, what.count),
        exp_avg_sq(what.exp_avg_sq, what.count),
        bf16(what.count) {
    cpu::ThreadPool pool(1);
    cpu::encode_parameter(pool, {flat(plain), split.view()});
  }
  AdamWStep step(int t) {
    gradient = normals(given.count, 100 + static_cast<std::uint64_t>(t));
    for (std::size_t i = 0; i < bf16.size(); ++i) bf16[i] = bf16_from_float(gradient[i]);
    AdamWStep step{.parameter = {.weight = flat(plain)},
                   .exp_avg = exp_avg.view(),
                   .exp_avg_sq = exp_avg_sq.view(),
                   .gradient = flat(gradient),
                   .learning_rate = 3e-3,
                   .weight_decay = 0.1,
                   .step = t,
                   .gradient_scale = 0.37F,
                   .rounding = {.key = mix_key(1, static_cast<std::uint64_t>(t)), .site = 4, .first = given.first}};
    if (given.compact) {
      step.parameter = split.view();
      step.gradient = test::bf16(bf16);
    }
    return step;
  }
  [[nodiscard]] bool same_as(const Training& other) const {
    return same_bits(plain, other.plain) && same_bits(split.weight, other.split.weight) &&
           same_bits(split.master, other.split.master) && exp_avg.same_as(other.exp_avg) &&
           exp_avg_sq.same_as(other.exp_avg_sq);
  }

  Case given;
  std::vector<float> plain, gradient;
  test::SplitParameter split;
  test::State exp_avg, exp_avg_sq;
  std::vector<std::uint16_t> bf16;
};

TEST_F(AdamWOnGpu, InEveryFormat_HasTheBitsOfTheCpu) {
  cpu::ThreadPool pool(2);
  const StateCodeTables* const tables = codes();
  for (const DType exp_avg : kStates)
    for (const DType exp_avg_sq : kStates)
      for (const bool compact : {false, true})
        for (const std::size_t count : {1, 255, 256, 5003}) {
          const bool blocks = exp_avg == DType::u8 || exp_avg_sq == DType::u8;
          const Case given{exp_avg, exp_avg_sq, compact, count, blocks ? 512 : 512 + 77};
          Training expected(given), found(given);
          for (int t = 1; t <= 3; ++t) {
            cpu::adamw(pool, expected.step(t));
            AdamWStep step = found.step(t);
            step.parameter = {on_gpu(step.parameter.weight), on_gpu(step.parameter.master)};
            step.exp_avg = {on_gpu(step.exp_avg.values), on_gpu(step.exp_avg.scales)};
            step.exp_avg_sq = {on_gpu(step.exp_avg_sq.values), on_gpu(step.exp_avg_sq.scales)};
            step.gradient = on_gpu(step.gradient);

            adamw(stream_, step, tables);

            collect();
          }
          EXPECT_TRUE(found.same_as(expected))
              << name_of(exp_avg) << " " << name_of(exp_avg_sq) << " " << compact << " " << count;
        }
}

TEST_F(AdamWOnGpu, SumsOfSquares_HaveTheBitsOfTheCpu) {
  cpu::ThreadPool pool(2);
  for (const std::size_t count : {1, 7, 8, 1000, 140001})
    for (const std::int64_t block : {1, 13, 256, 65536})
      for (const bool narrow : {false, true}) {
        if (block == 1 && count > 1000) continue;
        std::vector<float> values = normals(count, count);
        std::vector<std::uint16_t> bf16(count);
        for (std::size_t i = 0; i < count; ++i) bf16[i] = bf16_from_float(values[i]);
        const ConstTensorView x = narrow ? ConstTensorView(test::bf16(bf16)) : ConstTensorView(flat(values));
        const auto blocks = (count + static_cast<std::size_t>(block) - 1) / static_cast<std::size_t>(block);
        std::vector<double> expected(blocks), found(blocks, -1.0);
        cpu::sum_of_squares(pool, {.x = x, .block = block, .partial_sums = flat(expected)});

        sum_of_squares(stream_, {.x = on_gpu(x), .block = block, .partial_sums = on_gpu(flat(found))});

        collect();
        EXPECT_TRUE(same_bits(found, expected)) << count << " in blocks of " << block << (narrow ? ", bf16" : "");
      }
}

}  // namespace
}  // namespace spillway::kernels::cuda
