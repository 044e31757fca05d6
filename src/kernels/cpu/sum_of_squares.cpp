// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/sum_of_squares.hpp"

#include "kernels/cpu/instruction_set.hpp"
#include "kernels/cpu/rows.hpp"

namespace spillway::kernels::cpu {
namespace {

[[gnu::always_inline]] inline void sum_block(const float* x, std::int64_t count, double* result) {
  using Floats [[gnu::vector_size(32)]] = float;
  using Doubles [[gnu::vector_size(64)]] = double;
  Doubles sums{};
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    Floats part;
    __builtin_memcpy(&part, x + i, sizeof part);
    const Doubles wide = __builtin_convertvector(part, Doubles);
    sums += wide * wide;
  }
  for (; i < count; ++i) sums[i % 8] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  for (int half = 4; half > 0; half /= 2)
    for (int lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  *result = sums[0];
}

}  // namespace

void sum_of_squares(ThreadPool& pool, const SumOfSquares& op) {
  auto* sums = reinterpret_cast<double*>(op.partial_sums.data());
  parallel_blocks(pool, op.x.elements(), op.block, [&](std::int64_t begin, std::int64_t end) {
    vectorised<sum_block>(floats(op.x) + begin, end - begin, sums + begin / op.block);
  });
}

}  // namespace spillway::kernels::cpu
