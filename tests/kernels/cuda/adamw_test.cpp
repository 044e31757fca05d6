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
  DType weight;  // bf16: parameters in 2 + 2 bytes, gradients in bf16; f16: an f32 master, gradients in f16
  std::size_t count;
  std::int64_t first;
};

struct Training {
  explicit Training(const Case& what)
      : given(what),
        plain(normals(what.count, 1)),
        split(what.count),
        half(what.count),
        exp_avg(what.exp_avg, what.count),
        exp_avg_sq(what.exp_avg_sq, what.count),
        narrow(what.count) {
    cpu::ThreadPool pool(1);
    cpu::encode_parameter(pool, {flat(plain), split.view()});
    cpu::encode_parameter(pool, {flat(plain), half.view()});
  }
  AdamWStep step(int t) {
    gradient = normals(given.count, 100 + static_cast<std::uint64_t>(t));
    for (std::size_t i = 0; i < narrow.size(); ++i)
      narrow[i] = given.weight == DType::f16 ? f16_from_float(gradient[i]) : bf16_from_float(gradient[i]);
    AdamWStep step{.parameter = {.weight = flat(plain)},
                   .exp_avg = exp_avg.view(),
                   .exp_avg_sq = exp_avg_sq.view(),
                   .gradient = flat(gradient),
                   .learning_rate = 3e-3,
                   .weight_decay = 0.1,
                   .step = t,
                   .gradient_scale = 0.37F,
                   .rounding = {.key = mix_key(1, static_cast<std::uint64_t>(t)), .site = 4, .first = given.first}};
    if (given.weight == DType::f32) return step;
    step.parameter = given.weight == DType::bf16 ? split.view() : half.view();
    step.gradient = given.weight == DType::bf16 ? test::bf16(narrow) : test::f16(narrow);
    return step;
  }
  [[nodiscard]] bool same_as(const Training& other) const {
    return same_bits(plain, other.plain) && same_bits(split.weight, other.split.weight) &&
           same_bits(split.master, other.split.master) && same_bits(half.weight, other.half.weight) &&
           same_bits(half.master, other.half.master) && exp_avg.same_as(other.exp_avg) &&
           exp_avg_sq.same_as(other.exp_avg_sq);
  }

  Case given;
  std::vector<float> plain, gradient;
  test::SplitParameter split;
  test::HalfParameter half;
  test::State exp_avg, exp_avg_sq;
  std::vector<std::uint16_t> narrow;
};

TEST_F(AdamWOnGpu, InEveryFormat_HasTheBitsOfTheCpu) {
  cpu::ThreadPool pool(2);
  const StateCodeTables* const tables = codes();
  for (const DType exp_avg : kStates)
    for (const DType exp_avg_sq : kStates)
      for (const DType weight : {DType::f32, DType::bf16, DType::f16})
        for (const std::size_t count : {1, 255, 256, 5003, 1200003}) {
          // So many that a thread has several turns.
          if (count > 10000 && (exp_avg != exp_avg_sq || weight != DType::bf16)) continue;
          const bool blocks = exp_avg == DType::u8 || exp_avg_sq == DType::u8;
          const Case given{exp_avg, exp_avg_sq, weight, count, blocks ? 512 : 512 + 77};
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
              << name_of(exp_avg) << " " << name_of(exp_avg_sq) << " " << name_of(weight) << " " << count;
        }
}

TEST_F(AdamWOnGpu, SumsOfSquares_HaveTheBitsOfTheCpu) {
  cpu::ThreadPool pool(2);
  for (const std::size_t count : {1, 7, 8, 1000, 140001, 140032})
    for (const std::int64_t block : {1, 13, 256, 65536})
      for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        if (block == 1 && count > 1000) continue;
        std::vector<float> values = normals(count, count);
        std::vector<std::uint16_t> narrow(count);
        for (std::size_t i = 0; i < count; ++i)
          narrow[i] = dtype == DType::f16 ? f16_from_float(values[i]) : bf16_from_float(values[i]);
        const ConstTensorView x = dtype == DType::f32   ? ConstTensorView(flat(values))
                                  : dtype == DType::f16 ? ConstTensorView(test::f16(narrow))
                                                        : ConstTensorView(test::bf16(narrow));
        const auto blocks = (count + static_cast<std::size_t>(block) - 1) / static_cast<std::size_t>(block);
        std::vector<double> expected(blocks), found(blocks, -1.0);
        cpu::sum_of_squares(pool, {.x = x, .block = block, .partial_sums = flat(expected)});

        sum_of_squares(stream_, {.x = on_gpu(x), .block = block, .partial_sums = on_gpu(flat(found))});

        collect();
        EXPECT_TRUE(same_bits(found, expected)) << count << " in blocks of " << block << ", " << name_of(dtype);
      }
}

}  // namespace
}  // namespace spillway::kernels::cuda
