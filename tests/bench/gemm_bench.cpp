// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/cpu/gemm.hpp"

namespace spillway::kernels::cpu {
namespace {

/// x wᵀ with x (rows, in), w (out, in). Argument 3: threads, 0 for one BLAS call without the pool's tiles.
void linear_product(benchmark::State& state) {
  const std::int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  ThreadPool pool(std::max(1, static_cast<int>(state.range(3))));
  std::vector<float> a(static_cast<std::size_t>(m * k), 0.5F), b(static_cast<std::size_t>(n * k), 0.25F),
      c(static_cast<std::size_t>(m * n));
  const Gemm product{.transpose_b = true,
                     .m = m,
                     .n = n,
                     .k = k,
                     .a = a.data(),
                     .a_stride = k,
                     .b = b.data(),
                     .b_stride = k,
                     .c = c.data(),
                     .c_stride = n};

  for (auto _ : state) {
    if (state.range(3) == 0) {
      gemm(product);
    } else {
      gemm(pool, product);
    }
    benchmark::ClobberMemory();
  }

  state.counters["flops"] =
      benchmark::Counter(2.0 * static_cast<double>(m * n * k), benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(linear_product)
    ->ArgsProduct({{512, 4096}, {128, 512, 2048}, {128, 512}, {0, 1, 2}})
    ->ArgsProduct({{16, 32, 64, 96, 128}, {512, 32128}, {512, 2048}, {0, 1, 2}})  // a step of a decoder
    ->ArgNames({"rows", "out", "in", "threads"})
    ->UseRealTime();

}  // namespace
}  // namespace spillway::kernels::cpu
