// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/cpu/adamw.hpp"

namespace spillway::kernels::cpu {
namespace {

/// Argument 0: elements; 1: threads; 2: instruction set. A step reads four floats and writes three for each element.
void adamw_step(benchmark::State& state) {
  const auto set = static_cast<InstructionSet>(state.range(2));
  if (!supported(set)) return state.SkipWithError("this processor lacks the instruction set");
  const auto count = static_cast<std::size_t>(state.range(0));
  ThreadPool pool(static_cast<int>(state.range(1)));
  std::vector<float> parameter(count, 1.0F), exp_avg(count, 0.1F), exp_avg_sq(count, 0.01F), gradient(count, 0.5F);
  const Shape shape{state.range(0)};
  const AdamWStep step{.parameter = {.weight = {std::span<float>(parameter), shape}},
                       .exp_avg = {.values = {std::span<float>(exp_avg), shape}},
                       .exp_avg_sq = {.values = {std::span<float>(exp_avg_sq), shape}},
                       .gradient = {std::span<const float>(gradient), shape},
                       .learning_rate = 1e-3,
                       .weight_decay = 0.01};

  for (auto _ : state) adamw(pool, step, set);

  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.SetBytesProcessed(state.iterations() * state.range(0) * 28);
}
BENCHMARK(adamw_step)
    ->ArgsProduct({{1 << 14, 1 << 24}, {1, 2}, {0, 1, 2}})
    ->ArgNames({"elements", "threads", "set"})
    ->UseRealTime();

}  // namespace
}  // namespace spillway::kernels::cpu
