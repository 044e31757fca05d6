// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/sum_of_squares.hpp"

#include <algorithm>

#include "kernels/cpu/rows.hpp"
#include "kernels/cpu/wide_sum.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr int kVectors = kSquareLanes / 8;

template <typename T>
[[gnu::always_inline]] inline double sum_run(const T* x, std::int64_t count) {
  Doubles sums[kVectors] = {};
  std::int64_t i = 0;
  for (; i + kSquareLanes <= count; i += kSquareLanes)
    for (int vector = 0; vector < kVectors; ++vector) {
      Doubles wide;
      load_wide(x + i + 8 * vector, wide);
      sums[vector] += wide * wide;
    }
  if (i < count) {
    T rest[kSquareLanes] = {};  // what is missing adds nothing
    for (std::int64_t j = i; j < count; ++j) rest[j - i] = x[j];
    for (int vector = 0; vector < kVectors; ++vector) {
      Doubles wide;
      load_wide(rest + 8 * vector, wide);
      sums[vector] += wide * wide;
    }
  }
  for (int half = kVectors / 2; half > 0; half /= 2)
    for (int vector = 0; vector < half; ++vector) sums[vector] += sums[vector + half];
  WideSum total;
  total.add(sums[0]);
  return total.total();
}

template <typename T>
[[gnu::always_inline]] inline void sum_block(const T* x, std::int64_t count, double* result) {
  double sum = 0.0;
  for (std::int64_t begin = 0; begin < count; begin += kSquareRun)
    sum += sum_run(x + begin, std::min(kSquareRun, count - begin));
  *result = sum;
}

}  // namespace

void sum_of_squares(ThreadPool& pool, const SumOfSquares& op, InstructionSet set) {
  auto* sums = reinterpret_cast<double*>(op.partial_sums.data());
  parallel_blocks(pool, op.x.elements(), op.block, [&](std::int64_t begin, std::int64_t end) {
    double* sum = sums + begin / op.block;
    if (op.x.dtype() == DType::f32)
      return vectorised_for<sum_block<float>>(set, floats(op.x) + begin, end - begin, sum);
    if (op.x.dtype() == DType::f16)
      return vectorised_for<sum_block<Float16>>(set, reinterpret_cast<const Float16*>(op.x.data()) + begin, end - begin,
                                                sum);
    const auto* bf16 = reinterpret_cast<const std::uint16_t*>(op.x.data()) + begin;
    vectorised_for<sum_block<std::uint16_t>>(set, bf16, end - begin, sum);
  });
}

}  // namespace spillway::kernels::cpu
