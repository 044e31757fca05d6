// SPDX-License-Identifier: Apache-2.0
// AdamW beside a plain C loop over the same arrays. Two runs on a machine that does other things differ more than what is compared:
//   adamw_bench --benchmark_enable_random_interleaving=true --benchmark_repetitions=7 --benchmark_report_aggregates_only=true
// adamw_peers.py does the same beside DeepSpeed's CPU Adam. What memory allows: --benchmark_filter=of_stream, whose share_of_stream is
// what the update reads and writes a second over what loops do that read and write as much and compute nothing.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#include <benchmark/benchmark.h>
#include <immintrin.h>

#include "core/device.hpp"
#include "kernels/cpu/adamw.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr std::int64_t kLarge = 100'000'000;
/// What each array starts with: parameter, gradient, exp_avg, exp_avg_sq.
constexpr std::array<float, 4> kStart = {1.0F, 0.5F, 0.1F, 0.01F};

/// A parameter, its moments and its gradient in memory as training has it.
class Arrays {
 public:
  explicit Arrays(std::int64_t count) : count_(count) {
    for (Buffer& buffer : buffers_)
      buffer = device_->allocate(MemoryKind::device, static_cast<std::size_t>(count) * sizeof(float));
    scales_ = std::vector<float>(static_cast<std::size_t>(2 * state_scales(count)), 1.0F);
  }
  /// The arrays of the last benchmark if they have the size, as new: making them takes longer than several steps.
  static Arrays& of(std::int64_t count) {
    static std::unique_ptr<Arrays> arrays;
    if (!arrays || arrays->count_ != count) {
      arrays.reset();
      arrays = std::make_unique<Arrays>(count);
    }
    for (std::size_t i = 0; i < kStart.size(); ++i) std::fill_n(arrays->floats(i), count, kStart[i]);
    return *arrays;
  }
  float* floats(std::size_t array) { return reinterpret_cast<float*>(buffers_[array].data()); }
  TensorView view(std::size_t array, DType dtype = DType::f32) { return {buffers_[array].data(), dtype, {count_}}; }
  StateView state(std::size_t array, DType dtype) {
    StateView state{view(array, dtype), {}};
    if (dtype == DType::u8)
      state.scales = TensorView(std::span<float>(scales_), {2 * state_scales(count_)})
                         .flat(array == 2 ? 0 : state_scales(count_), state_scales(count_));
    return state;
  }
  ParameterView split_parameter() {
    std::byte* master = buffers_[0].data() + count_ * 2;
    return {view(0, DType::bf16), {master, DType::i16, {count_}}};
  }
  [[nodiscard]] std::int64_t count() const { return count_; }

 private:
  std::int64_t count_;
  std::unique_ptr<Device> device_ = make_host_device();
  std::array<Buffer, 4> buffers_;
  std::vector<float> scales_;
};

void report(benchmark::State& state, std::int64_t count, double bytes_per_element) {
  state.SetItemsProcessed(state.iterations() * count);
  state.counters["bytes_per_second"] =
      benchmark::Counter(bytes_per_element * static_cast<double>(count) * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate, benchmark::Counter::kIs1024);
}

void adamw_fp32(benchmark::State& state, InstructionSet set) {
  if (!supported(set)) return state.SkipWithError("this processor lacks the instruction set");
  Arrays& arrays = Arrays::of(state.range(0));
  ThreadPool pool(static_cast<int>(state.range(1)));
  const AdamWStep step{.parameter = {.weight = arrays.view(0)},
                       .exp_avg = arrays.state(2, DType::f32),
                       .exp_avg_sq = arrays.state(3, DType::f32),
                       .gradient = arrays.view(1),
                       .learning_rate = 1e-3,
                       .weight_decay = 0.01};
  for (auto _ : state) adamw(pool, step, set);
  report(state, arrays.count(), 28);
}

/// Parameters in 2 + 2 bytes and a gradient in bf16.
void adamw_compact(benchmark::State& state, DType moments) {
  Arrays& arrays = Arrays::of(state.range(0));
  std::memset(arrays.floats(0), 0, static_cast<std::size_t>(arrays.count()) * sizeof(float));
  ThreadPool pool(static_cast<int>(state.range(1)));
  const AdamWStep step{.parameter = arrays.split_parameter(),
                       .exp_avg = arrays.state(2, moments),
                       .exp_avg_sq = arrays.state(3, moments),
                       .gradient = arrays.view(1, DType::bf16),
                       .learning_rate = 1e-3};
  for (auto _ : state) adamw(pool, step);
  report(state, arrays.count(), 10 + 4 * static_cast<double>(size_of(moments)));
}

/// What a C programmer would write, for each thread an equal part, compiled as this project's kernels are.
[[gnu::always_inline]] inline void plain_loop(float* p, float* m, float* v, const float* g, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    p[i] *= 1.0F - 1e-3F * 0.01F;
    m[i] = 0.9F * m[i] + 0.1F * g[i];
    v[i] = 0.999F * v[i] + 0.001F * g[i] * g[i];
    p[i] -= 1e-2F * m[i] / (std::sqrt(v[i]) / 0.0316F + 1e-8F);
  }
}

void plain_c(benchmark::State& state) {
  Arrays& arrays = Arrays::of(state.range(0));
  const std::int64_t threads = state.range(1), part = arrays.count() / threads;
  for (auto _ : state) {
    std::vector<std::jthread> workers;
    for (std::int64_t i = 0; i < threads; ++i)
      workers.emplace_back([&arrays, part, begin = i * part] {
        vectorised<plain_loop>(arrays.floats(0) + begin, arrays.floats(2) + begin, arrays.floats(3) + begin,
                               arrays.floats(1) + begin, part);
      });
  }
  report(state, arrays.count(), 28);
}

/// Three arrays read and written and one that is only read, as AdamW does: what memory takes at most. Past the cache or through it.
template <bool kPastCache>
[[gnu::target("avx2")]] void stream_part(float* const (&written)[3], const float* read, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += 8) {
    const __m256 added = _mm256_loadu_ps(read + i);
    for (float* const array : written) {
      const __m256 sum = _mm256_add_ps(_mm256_load_ps(array + i), added);
      if (kPastCache) _mm256_stream_ps(array + i, sum);
      else _mm256_store_ps(array + i, sum);
    }
  }
  if (kPastCache) _mm_sfence();
}

/// Seconds of one pass.
template <bool kPastCache>
double stream_seconds(ThreadPool& pool, Arrays& arrays) {
  constexpr std::int64_t kPart = 16384;
  const auto start = std::chrono::steady_clock::now();
  pool.parallel_for(arrays.count() / kPart, [&](std::int64_t part) {
    const std::int64_t begin = part * kPart;
    stream_part<kPastCache>({arrays.floats(0) + begin, arrays.floats(2) + begin, arrays.floats(3) + begin},
                            arrays.floats(1) + begin, kPart);
  });
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Of AdamW as a GPU's job has it beside it: parameters in 2 + 2 bytes, a gradient in bf16, moments in fp32; and, `plain`, of fp32 alone.
/// Streams and updates take turns, so that both see the same machine.
void adamw_of_stream(benchmark::State& state, bool plain) {
  if (!supported(InstructionSet::avx2)) return state.SkipWithError("this processor lacks AVX2");
  Arrays& arrays = Arrays::of(kLarge);
  if (!plain) std::memset(arrays.floats(0), 0, static_cast<std::size_t>(kLarge) * sizeof(float));
  ThreadPool pool(static_cast<int>(state.range(0)));
  const AdamWStep step{.parameter = plain ? ParameterView{.weight = arrays.view(0)} : arrays.split_parameter(),
                       .exp_avg = arrays.state(2, DType::f32),
                       .exp_avg_sq = arrays.state(3, DType::f32),
                       .gradient = arrays.view(1, plain ? DType::f32 : DType::bf16),
                       .learning_rate = 0.0};
  Arrays streamed(kLarge);
  double update = 1e9, past_cache = 1e9, through_cache = 1e9;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    adamw(pool, step);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    state.SetIterationTime(seconds);
    update = std::min(update, seconds);
    past_cache = std::min(past_cache, stream_seconds<true>(pool, streamed));
    through_cache = std::min(through_cache, stream_seconds<false>(pool, streamed));
  }
  const double elements = static_cast<double>(kLarge), bytes = plain ? 28.0 : 26.0;
  report(state, kLarge, bytes);
  const double rate = bytes * elements / update;
  const double stream = 28.0 * elements / std::min(past_cache, through_cache);
  state.counters["best_bytes_per_second"] = rate;
  state.counters["stream_past_cache"] = 28.0 * elements / past_cache;
  state.counters["stream_through_cache"] = 28.0 * elements / through_cache;
  state.counters["share_of_stream"] = rate / stream;
}

/// Threads up to those of the machine.
void threads(benchmark::internal::Benchmark* benchmark) {
  const auto most = static_cast<std::int64_t>(std::thread::hardware_concurrency());
  for (std::int64_t count = 1; count < most; count = count < 4 ? 2 * count : count + 4) benchmark->Arg(count);
  benchmark->Arg(most)->UseManualTime()->Iterations(5);
}

/// Elements and threads. Processor time is that of all threads.
void sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgsProduct({{1 << 14, kLarge}, {1, 2}})->UseRealTime()->MeasureProcessCPUTime();
}

BENCHMARK_CAPTURE(adamw_of_stream, fp32, true)->Apply(threads);
BENCHMARK_CAPTURE(adamw_of_stream, compact, false)->Apply(threads);
BENCHMARK(plain_c)->Apply(sizes);
BENCHMARK_CAPTURE(adamw_fp32, baseline, InstructionSet::baseline)->Apply(sizes);
BENCHMARK_CAPTURE(adamw_fp32, avx2, InstructionSet::avx2)->Apply(sizes);
BENCHMARK_CAPTURE(adamw_fp32, avx512, InstructionSet::avx512)->Apply(sizes);
BENCHMARK_CAPTURE(adamw_compact, fp32_moments, DType::f32)->Apply(sizes);
BENCHMARK_CAPTURE(adamw_compact, bf16_moments, DType::bf16)->Apply(sizes);
BENCHMARK_CAPTURE(adamw_compact, int8_moments, DType::u8)->Apply(sizes);

}  // namespace
}  // namespace spillway::kernels::cpu
