// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <functional>
#include <vector>

#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>

#include "core/cuda_device.hpp"
#include "kernels/cuda/cuda_kernels.hpp"

namespace spillway::kernels::cuda {
namespace {

/// One token of a batched beam search in bf16: 4 beams for each item, sources of 128 tokens.
struct Search {
  std::int64_t items, heads, head_size, d_model, d_ff;
  [[nodiscard]] std::int64_t rows() const { return 4 * items; }
  [[nodiscard]] std::int64_t inner() const { return heads * head_size; }
};
constexpr Search kLarge = {40, 16, 64, 1024, 4096};  // t5-large
constexpr Search k3b = {20, 32, 128, 1024, 16384};   // t5-3b
constexpr std::int64_t kCapacity = 128, kVocabulary = 32128, kBeams = 4;

class Gpu {
 public:
  Gpu()
      : device_(make_cuda_device({})),
        queue_(device_->create_compute_queue()),
        workspace_(device_->allocate(MemoryKind::device, std::size_t{256} << 20)),
        ops_(make_model_ops({workspace_.data(), workspace_.bytes()})),
        pinned_(device_->allocate(MemoryKind::pinned_host, generation_pinned_bytes())),
        candidates_(device_->allocate(MemoryKind::device, std::size_t{1} << 20)),
        generation_(make_generation_ops({candidates_.data(), candidates_.bytes()}, {pinned_.data(), pinned_.bytes()})) {
  }
  static Gpu& get() {
    static Gpu gpu;
    return gpu;
  }
  /// Of zeros.
  TensorView tensor(Shape shape, DType dtype = DType::bf16) {
    memory_.push_back(
        device_->allocate(MemoryKind::device, static_cast<std::size_t>(shape.elements()) * size_of(dtype)));
    return {memory_.back().data(), dtype, shape};
  }
  TensorView upload(const std::vector<std::int32_t>& values, Shape shape) {
    const TensorView view = tensor(shape, DType::i32);
    (void)cudaMemcpy(view.data(), values.data(), 4 * values.size(), cudaMemcpyHostToDevice);
    return view;
  }
  /// Runs `op` forty times an iteration, as one graph, so that launches do not bind. \param bytes  of one op
  void measure(benchmark::State& state, const std::function<void()>& op, double bytes) {
    constexpr int kRepeats = 40;
    op();
    queue_->synchronize();
    const auto recording = device_->record_work(*queue_, [&] {
      for (int i = 0; i < kRepeats; ++i) op();
    });
    for (auto _ : state) {
      recording->run(*queue_);
      queue_->synchronize();
    }
    using benchmark::Counter;
    state.counters["op_us"] = Counter(kRepeats * 1e-6, Counter::kIsIterationInvariantRate | Counter::kInvert);
    state.counters["bytes"] = Counter(bytes * kRepeats, Counter::kIsIterationInvariantRate);
    memory_.clear();
  }
  [[nodiscard]] Queue& queue() { return *queue_; }
  [[nodiscard]] ModelOps& ops() { return *ops_; }
  [[nodiscard]] GenerationOps& generation() { return *generation_; }

 private:
  std::unique_ptr<Device> device_;
  std::unique_ptr<Queue> queue_;
  Buffer workspace_;
  std::unique_ptr<ModelOps> ops_;
  Buffer pinned_, candidates_;
  std::unique_ptr<GenerationOps> generation_;
  std::vector<Buffer> memory_;
};

/// An item's beams have descended from one of them twelve tokens ago, as they do in a search.
std::vector<std::int32_t> ancestry_of(const Search& s, std::int64_t position) {
  std::vector<std::int32_t> ancestry;
  for (std::int64_t row = 0; row < s.rows(); ++row)
    for (std::int64_t j = 0; j < kCapacity; ++j)
      ancestry.push_back(static_cast<std::int32_t>(j + 12 > position ? row : row / kBeams * kBeams + j % kBeams));
  return ancestry;
}

void self_attention(benchmark::State& state, const Search& s, std::int64_t position) {
  Gpu& gpu = Gpu::get();
  const std::int64_t rows = s.rows(), inner = s.inner();
  const TensorView qkv = gpu.tensor({rows, 3 * inner});
  const auto part = [&](std::int64_t i) {
    return ConstTensorView(qkv.data() + static_cast<std::size_t>(i * inner) * 2, DType::bf16, qkv.shape());
  };
  const CachedSelfAttention op{.rows = rows,
                               .capacity = kCapacity,
                               .heads = s.heads,
                               .head_size = s.head_size,
                               .position = gpu.upload({static_cast<std::int32_t>(position)}, {1}),
                               .q = part(0),
                               .k = part(1),
                               .v = part(2),
                               .stride = 3 * inner,
                               .cache_k = gpu.tensor({rows, kCapacity, inner}),
                               .cache_v = gpu.tensor({rows, kCapacity, inner}),
                               .ancestry = gpu.upload(ancestry_of(s, position), {rows, kCapacity}),
                               .bias = {.table = gpu.tensor({32, s.heads}), .bidirectional = false},
                               .out = gpu.tensor({rows, inner})};
  gpu.measure(
      state, [&] { gpu.generation().cached_self_attention(gpu.queue(), op); },
      4.0 * static_cast<double>((position + 1) * rows * inner));
}

void cross_attention(benchmark::State& state, const Search& s) {
  Gpu& gpu = Gpu::get();
  const std::int64_t rows = s.rows(), inner = s.inner(), keys = s.items * 128;
  std::vector<std::int32_t> offsets, sequences;
  for (std::int64_t i = 0; i <= s.items; ++i) offsets.push_back(static_cast<std::int32_t>(i * 128));
  for (std::int64_t row = 0; row < rows; ++row) sequences.push_back(static_cast<std::int32_t>(row / kBeams));
  const TensorView kv = gpu.tensor({keys, 2 * inner});
  const CachedCrossAttention op{.keys = {.offsets = gpu.upload(offsets, {s.items + 1}),
                                         .row_sample = {},
                                         .row_position = {},
                                         .count = s.items,
                                         .rows = keys,
                                         .longest = 128},
                                .rows = rows,
                                .heads = s.heads,
                                .head_size = s.head_size,
                                .q = gpu.tensor({rows, inner}),
                                .k = kv,
                                .v = {kv.data() + static_cast<std::size_t>(inner) * 2, DType::bf16, kv.shape()},
                                .row_sequence = gpu.upload(sequences, {rows}),
                                .k_stride = 2 * inner,
                                .v_stride = 2 * inner,
                                .out = gpu.tensor({rows, inner})};
  gpu.measure(
      state, [&] { gpu.generation().cached_cross_attention(gpu.queue(), op); },
      4.0 * static_cast<double>(keys * inner));
}

void top_continuations(benchmark::State& state, const Search& s) {
  Gpu& gpu = Gpu::get();
  const TopContinuations op{.items = s.items,
                            .beams = kBeams,
                            .count = 2 * kBeams,
                            .logits = gpu.tensor({s.rows(), kVocabulary}, DType::f32),
                            .row_scores = gpu.tensor({s.rows()}, DType::f32),
                            .scores = gpu.tensor({s.items, 2 * kBeams}, DType::f32),
                            .rows = gpu.tensor({s.items, 2 * kBeams}, DType::i32),
                            .tokens = gpu.tensor({s.items, 2 * kBeams}, DType::i32)};
  gpu.measure(
      state, [&] { gpu.generation().top_continuations(gpu.queue(), op); },
      4.0 * static_cast<double>(s.rows() * kVocabulary));
}

void residual_norm(benchmark::State& state, const Search& s) {
  Gpu& gpu = Gpu::get();
  const TensorView hidden = gpu.tensor({s.rows(), s.d_model}, DType::f32);
  const ResidualNorm op{.sequences = {},
                        .hidden_in = hidden,
                        .branch = gpu.tensor({s.rows(), s.d_model}),
                        .weight = gpu.tensor({s.d_model}),
                        .dropout = {},
                        .output_dropout = {},
                        .hidden_out = hidden,
                        .normed = gpu.tensor({s.rows(), s.d_model}),
                        .rstd = gpu.tensor({s.rows()}, DType::f32)};
  gpu.measure(
      state, [&] { gpu.ops().residual_norm(gpu.queue(), op); },
      static_cast<double>(s.rows() * s.d_model * (4 + 2 + 4 + 2)));
}

/// Weights of several blocks in turn, which no cache holds.
void linear(benchmark::State& state, const Search& s, std::int64_t in, std::int64_t out, DType result, bool relu) {
  Gpu& gpu = Gpu::get();
  const TensorView x = gpu.tensor({s.rows(), in}), y = gpu.tensor({s.rows(), out}, result);
  std::vector<TensorView> weights;
  const auto count = std::clamp<std::int64_t>((std::int64_t{128} << 20) / (2 * in * out), 2, 24);
  for (std::int64_t i = 0; i < count; ++i) weights.push_back(gpu.tensor({out, in}));
  std::size_t turn = 0;
  gpu.measure(
      state,
      [&] { gpu.ops().linear(gpu.queue(), {.x = x, .w = weights[turn++ % weights.size()], .y = y, .relu = relu}); },
      2.0 * static_cast<double>(in * out));
}

/// A block's part of a token: all of its ops in their order, of several blocks in turn.
void block(benchmark::State& state, const Search& s, std::int64_t position) {
  Gpu& gpu = Gpu::get();
  constexpr std::size_t kBlocks = 8;
  const std::int64_t rows = s.rows(), d = s.d_model, inner = s.inner(), keys = s.items * 128;
  struct Weights {
    TensorView qkv, o, cross_q, cross_o, wi, wo, cache_k, cache_v, cross_kv;
  };
  std::vector<Weights> weights;
  for (std::size_t i = 0; i < kBlocks; ++i)
    weights.push_back({.qkv = gpu.tensor({3 * inner, d}),
                       .o = gpu.tensor({d, inner}),
                       .cross_q = gpu.tensor({inner, d}),
                       .cross_o = gpu.tensor({d, inner}),
                       .wi = gpu.tensor({s.d_ff, d}),
                       .wo = gpu.tensor({d, s.d_ff}),
                       .cache_k = gpu.tensor({rows, kCapacity, inner}),
                       .cache_v = gpu.tensor({rows, kCapacity, inner}),
                       .cross_kv = gpu.tensor({keys, 2 * inner})});
  std::vector<std::int32_t> offsets, sequences;
  for (std::int64_t i = 0; i <= s.items; ++i) offsets.push_back(static_cast<std::int32_t>(i * 128));
  for (std::int64_t row = 0; row < rows; ++row) sequences.push_back(static_cast<std::int32_t>(row / kBeams));
  const TensorView at = gpu.upload({static_cast<std::int32_t>(position)}, {1});
  const TensorView ancestry = gpu.upload(ancestry_of(s, position), {rows, kCapacity});
  const TensorView first_keys = gpu.upload(offsets, {s.items + 1}), row_sequence = gpu.upload(sequences, {rows});
  const TensorView table = gpu.tensor({32, s.heads}), norm_weight = gpu.tensor({d});
  const TensorView hidden = gpu.tensor({rows, d}, DType::f32), rstd = gpu.tensor({rows}, DType::f32);
  const TensorView branch = gpu.tensor({rows, d}), normed = gpu.tensor({rows, d});
  const TensorView qkv = gpu.tensor({rows, 3 * inner}), q = qkv.flat(0, rows * inner).reshape({rows, inner});
  const TensorView attended = gpu.tensor({rows, inner}), act = gpu.tensor({rows, s.d_ff});
  const auto columns = [](const TensorView& wide, std::int64_t first) {
    return ConstTensorView(wide.data() + static_cast<std::size_t>(first) * 2, wide.dtype(), wide.shape());
  };
  const auto product = [&](const TensorView& x, const TensorView& w, const TensorView& y, bool relu = false) {
    gpu.ops().linear(gpu.queue(), {.x = x, .w = w, .y = y, .relu = relu});
  };
  const auto norm = [&] {
    gpu.ops().residual_norm(gpu.queue(), {.sequences = {},
                                          .hidden_in = hidden,
                                          .branch = branch,
                                          .weight = norm_weight,
                                          .dropout = {},
                                          .output_dropout = {},
                                          .hidden_out = hidden,
                                          .normed = normed,
                                          .rstd = rstd});
  };
  std::size_t turn = 0;
  const auto run = [&] {
    const Weights& w = weights[turn++ % kBlocks];
    norm();
    product(normed, w.qkv, qkv);
    gpu.generation().cached_self_attention(gpu.queue(), {.rows = rows,
                                                         .capacity = kCapacity,
                                                         .heads = s.heads,
                                                         .head_size = s.head_size,
                                                         .position = at,
                                                         .q = qkv,
                                                         .k = columns(qkv, inner),
                                                         .v = columns(qkv, 2 * inner),
                                                         .stride = 3 * inner,
                                                         .cache_k = w.cache_k,
                                                         .cache_v = w.cache_v,
                                                         .ancestry = ancestry,
                                                         .bias = {.table = table, .bidirectional = false},
                                                         .out = attended});
    product(attended, w.o, branch);
    norm();
    product(normed, w.cross_q, q);
    gpu.generation().cached_cross_attention(gpu.queue(), {.keys = {.offsets = first_keys,
                                                                   .row_sample = {},
                                                                   .row_position = {},
                                                                   .count = s.items,
                                                                   .rows = keys,
                                                                   .longest = 128},
                                                          .rows = rows,
                                                          .heads = s.heads,
                                                          .head_size = s.head_size,
                                                          .q = q,
                                                          .k = w.cross_kv,
                                                          .v = columns(w.cross_kv, inner),
                                                          .row_sequence = row_sequence,
                                                          .k_stride = 2 * inner,
                                                          .v_stride = 2 * inner,
                                                          .out = attended});
    product(attended, w.cross_o, branch);
    norm();
    product(normed, w.wi, act, true);
    product(act, w.wo, branch);
  };
  gpu.measure(state, run, static_cast<double>(weights.front().qkv.bytes()));
}

void register_for(const std::string& name, const Search& s) {
  const auto add = [&](const std::string& op, const std::function<void(benchmark::State&)>& run) {
    benchmark::RegisterBenchmark((name + "/" + op).c_str(), run)->UseRealTime()->Unit(benchmark::kMicrosecond);
  };
  for (const std::int64_t position : {0, 31, 70, 127})
    add("self_attention/" + std::to_string(position),
        [s, position](benchmark::State& state) { self_attention(state, s, position); });
  for (const std::int64_t position : {15, 70, 127})
    add("block/" + std::to_string(position), [s, position](benchmark::State& state) { block(state, s, position); });
  add("cross_attention", [s](benchmark::State& state) { cross_attention(state, s); });
  add("residual_norm", [s](benchmark::State& state) { residual_norm(state, s); });
  add("top_continuations", [s](benchmark::State& state) { top_continuations(state, s); });
  const auto product = [&](const std::string& what, std::int64_t in, std::int64_t out, DType result,
                           bool relu = false) {
    add("linear/" + what, [=](benchmark::State& state) { linear(state, s, in, out, result, relu); });
  };
  product("qkv", s.d_model, 3 * s.inner(), DType::bf16);
  product("q", s.d_model, s.inner(), DType::bf16);
  product("o", s.inner(), s.d_model, DType::bf16);
  product("wi", s.d_model, s.d_ff, DType::bf16, true);
  product("wo", s.d_ff, s.d_model, DType::bf16);
  product("head", s.d_model, kVocabulary, DType::f32);
}

}  // namespace
}  // namespace spillway::kernels::cuda

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  spillway::kernels::cuda::register_for("t5-large", spillway::kernels::cuda::kLarge);
  spillway::kernels::cuda::register_for("t5-3b", spillway::kernels::cuda::k3b);
  benchmark::RunSpecifiedBenchmarks();
}
