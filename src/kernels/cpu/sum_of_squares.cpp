// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/sum_of_squares.hpp"

#include "kernels/cpu/rows.hpp"
#include "kernels/cpu/wide_sum.hpp"

namespace spillway::kernels::cpu {
namespace {

template <typename T>
[[gnu::always_inline]] inline void sum_block(const T* x, std::int64_t count, double* result) {
  *result = sum_of_squares_of(x, count);
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
