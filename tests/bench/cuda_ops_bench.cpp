// SPDX-License-Identifier: Apache-2.0
#include <functional>
#include <numeric>
#include <vector>

#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>

#include "core/cuda_device.hpp"
#include "kernels/cuda/cuda_kernels.hpp"

namespace spillway::kernels::cuda {
namespace {

/// The ops of a T5 layer on one GPU, in bf16, at the sizes of a batch of sequences of `length` tokens.
struct Shape5 {
  std::int64_t sequences, heads, head_size, d_model, d_ff;
  std::int64_t length = 128;
  [[nodiscard]] std::int64_t rows() const { return sequences * length; }
  [[nodiscard]] std::int64_t inner() const { return heads * head_size; }
};
constexpr Shape5 kLarge = {40, 16, 64, 1024, 4096};      // t5-large, batch 40
constexpr Shape5 kLong = {10, 16, 64, 1024, 4096, 512};  // t5-large, batch 10
constexpr Shape5 k3b = {20, 32, 128, 1024, 16384};       // t5-3b, batch 20

class Gpu {
 public:
  Gpu()
      : device_(make_cuda_device({})),
        queue_(device_->create_compute_queue()),
        workspace_(device_->allocate(MemoryKind::device, std::size_t{512} << 20)),
        ops_(make_model_ops({workspace_.data(), workspace_.bytes()})),
        optimizer_workspace_(device_->allocate(MemoryKind::device, optimizer_workspace_bytes())),
        optimizer_(make_optimizer_ops(*queue_, {optimizer_workspace_.data(), optimizer_workspace_.bytes()})) {}
  static Gpu& get() {
    static Gpu gpu;
    return gpu;
  }
  TensorView tensor(Shape shape, DType dtype = DType::bf16) {
    const auto bytes = static_cast<std::size_t>(shape.elements()) * size_of(dtype);
    memory_.push_back(device_->allocate(MemoryKind::device, bytes));
    if (dtype == DType::bf16 || dtype == DType::f32) fill(memory_.back(), dtype);
    return {memory_.back().data(), dtype, shape};
  }
  PackedSequences sequences(std::int64_t count, std::int64_t length = 128) {
    std::vector<std::int32_t> offsets, sample, position;
    for (std::int64_t i = 0; i <= count; ++i) offsets.push_back(static_cast<std::int32_t>(i * length));
    for (std::int64_t row = 0; row < count * length; ++row) {
      sample.push_back(static_cast<std::int32_t>(row / length));
      position.push_back(static_cast<std::int32_t>(row % length));
    }
    return {.offsets = upload(offsets),
            .row_sample = upload(sample),
            .row_position = upload(position),
            .count = count,
            .rows = count * length,
            .longest = length};
  }
  TensorView upload(const std::vector<std::int32_t>& values) {
    const TensorView view = tensor({static_cast<std::int64_t>(values.size())}, DType::i32);
    (void)cudaMemcpy(view.data(), values.data(), 4 * values.size(), cudaMemcpyHostToDevice);
    return view;
  }
  void forget() { memory_.clear(); }
  [[nodiscard]] Queue& queue() { return *queue_; }
  [[nodiscard]] ModelOps& ops() { return *ops_; }
  [[nodiscard]] OptimizerOps& optimizer() { return *optimizer_; }

 private:
  /// Small numbers of both signs: a GPU's clock depends on them.
  void fill(const Buffer& buffer, DType dtype) {
    std::vector<std::uint16_t> halves(buffer.bytes() / 2, 0);
    std::uint32_t state = 1;
    for (std::size_t i = dtype == DType::f32 ? 1 : 0; i < halves.size(); i += dtype == DType::f32 ? 2 : 1) {
      state = state * 1664525U + 1013904223U;
      halves[i] = static_cast<std::uint16_t>((state >> 16 & 0x80FFU) | 0x3D00U);
    }
    (void)cudaMemcpy(buffer.data(), halves.data(), buffer.bytes(), cudaMemcpyHostToDevice);
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Queue> queue_;
  Buffer workspace_;
  std::unique_ptr<ModelOps> ops_;
  Buffer optimizer_workspace_;
  std::unique_ptr<OptimizerOps> optimizer_;
  std::vector<Buffer> memory_;
};

/// Runs `op` twenty times an iteration. \param flops, bytes  of one op; 0: not counted
void measure(benchmark::State& state, const std::function<void()>& op, double flops, double bytes) {
  constexpr int kRepeats = 20;
  op();
  Gpu::get().queue().synchronize();
  for (auto _ : state) {
    for (int i = 0; i < kRepeats; ++i) op();
    Gpu::get().queue().synchronize();
  }
  using benchmark::Counter;
  state.counters["op_us"] = Counter(kRepeats * 1e-6, Counter::kIsIterationInvariantRate | Counter::kInvert);
  if (flops > 0) state.counters["flops"] = Counter(flops * kRepeats, Counter::kIsIterationInvariantRate);
  if (bytes > 0) state.counters["bytes"] = Counter(bytes * kRepeats, Counter::kIsIterationInvariantRate);
  Gpu::get().forget();
}

void linear(benchmark::State& state, std::int64_t rows, std::int64_t in, std::int64_t out) {
  Gpu& gpu = Gpu::get();
  const Linear op{.x = gpu.tensor({rows, in}), .w = gpu.tensor({out, in}), .y = gpu.tensor({rows, out})};
  measure(
      state, [&] { gpu.ops().linear(gpu.queue(), op); }, 2.0 * static_cast<double>(rows * in * out), 0);
}
void input_gradient(benchmark::State& state, std::int64_t rows, std::int64_t in, std::int64_t out) {
  Gpu& gpu = Gpu::get();
  const LinearInputGradient op{.dy = gpu.tensor({rows, out}), .w = gpu.tensor({out, in}), .dx = gpu.tensor({rows, in})};
  measure(
      state, [&] { gpu.ops().linear_input_gradient(gpu.queue(), op); }, 2.0 * static_cast<double>(rows * in * out), 0);
}
/// \param dw  f32: added to; bf16: overwritten
void weight_gradient(benchmark::State& state, std::int64_t rows, std::int64_t in, std::int64_t out, DType dw) {
  Gpu& gpu = Gpu::get();
  const LinearWeightGradient op{.dy = gpu.tensor({rows, out}),
                                .x = gpu.tensor({rows, in}),
                                .dw = gpu.tensor({out, in}, dw),
                                .output = dw == DType::f32 ? Output::add : Output::overwrite};
  measure(
      state, [&] { gpu.ops().linear_weight_gradient(gpu.queue(), op); }, 2.0 * static_cast<double>(rows * in * out), 0);
}

Attention attention_of(Gpu& gpu, const Shape5& s, bool cross) {
  const TensorView qkv = gpu.tensor({s.rows(), 3 * s.inner()});
  const auto part = [&](std::int64_t i) {
    return ConstTensorView(qkv.data() + static_cast<std::size_t>(i * s.inner()) * 2, DType::bf16, qkv.shape());
  };
  const PackedSequences sequences = gpu.sequences(s.sequences, s.length);
  return {.queries = sequences,
          .keys = sequences,
          .heads = s.heads,
          .head_size = s.head_size,
          .q = part(0),
          .k = part(1),
          .v = part(2),
          .q_stride = 3 * s.inner(),
          .k_stride = 3 * s.inner(),
          .v_stride = 3 * s.inner(),
          .bias = {.table = cross ? TensorView{} : gpu.tensor({32, s.heads})},
          .dropout = {.probability = 0.1F, .key = 1, .site = 2},
          .out = gpu.tensor({s.rows(), s.inner()}),
          .log_sum_exp = gpu.tensor({s.rows(), s.heads}, DType::f32)};
}
void attention(benchmark::State& state, const Shape5& s, bool cross) {
  Gpu& gpu = Gpu::get();
  const Attention op = attention_of(gpu, s, cross);
  measure(
      state, [&] { gpu.ops().attention(gpu.queue(), op); }, 4.0 * static_cast<double>(s.length * s.rows() * s.inner()),
      8.0 * static_cast<double>(s.rows() * s.inner()));
}
void attention_gradient(benchmark::State& state, const Shape5& s, bool cross) {
  Gpu& gpu = Gpu::get();
  const Attention forward = attention_of(gpu, s, cross);
  const TensorView d = gpu.tensor({s.rows(), 3 * s.inner()});
  const auto part = [&](std::int64_t i) {
    return TensorView(d.data() + static_cast<std::size_t>(i * s.inner()) * 2, DType::bf16, d.shape());
  };
  const AttentionGradient op{.forward = forward,
                             .d_out = gpu.tensor({s.rows(), s.inner()}),
                             .d_q = part(0),
                             .d_k = part(1),
                             .d_v = part(2),
                             .d_bias = cross ? TensorView{} : gpu.tensor({32, s.heads}, DType::f32)};
  gpu.ops().attention(gpu.queue(), forward);
  measure(
      state, [&] { gpu.ops().attention_gradient(gpu.queue(), op); },
      10.0 * static_cast<double>(s.length * s.rows() * s.inner()), 16.0 * static_cast<double>(s.rows() * s.inner()));
}
void residual_norm(benchmark::State& state, const Shape5& s) {
  Gpu& gpu = Gpu::get();
  const ResidualNorm op{.sequences = gpu.sequences(s.sequences, s.length),
                        .hidden_in = gpu.tensor({s.rows(), s.d_model}, DType::f32),
                        .branch = gpu.tensor({s.rows(), s.d_model}),
                        .weight = gpu.tensor({s.d_model}),
                        .dropout = {.probability = 0.1F, .key = 1, .site = 2},
                        .output_dropout = {},
                        .hidden_out = gpu.tensor({s.rows(), s.d_model}, DType::f32),
                        .normed = gpu.tensor({s.rows(), s.d_model}),
                        .rstd = gpu.tensor({s.rows()}, DType::f32)};
  measure(
      state, [&] { gpu.ops().residual_norm(gpu.queue(), op); }, 0, 12.0 * static_cast<double>(s.rows() * s.d_model));
}
void residual_norm_gradient(benchmark::State& state, const Shape5& s) {
  Gpu& gpu = Gpu::get();
  const ResidualNormGradient op{.sequences = gpu.sequences(s.sequences, s.length),
                                .d_normed = gpu.tensor({s.rows(), s.d_model}),
                                .hidden = gpu.tensor({s.rows(), s.d_model}, DType::f32),
                                .rstd = gpu.tensor({s.rows()}, DType::f32),
                                .weight = gpu.tensor({s.d_model}),
                                .dropout = {.probability = 0.1F, .key = 1, .site = 2},
                                .output_dropout = {},
                                .d_hidden = gpu.tensor({s.rows(), s.d_model}, DType::f32),
                                .d_branch = gpu.tensor({s.rows(), s.d_model}),
                                .d_weight = gpu.tensor({s.d_model}, DType::f32)};
  measure(
      state, [&] { gpu.ops().residual_norm_gradient(gpu.queue(), op); }, 0,
      16.0 * static_cast<double>(s.rows() * s.d_model));
}
void activation(benchmark::State& state, const Shape5& s, bool backward, bool gated) {
  Gpu& gpu = Gpu::get();
  const Shape wide{s.rows(), gated ? 2 * s.d_ff : s.d_ff};
  const TensorView u = gpu.tensor(wide), out = gpu.tensor({s.rows(), s.d_ff}), du = gpu.tensor(wide);
  const kernels::ActivationKind kind = gated ? ActivationKind::gelu_new : ActivationKind::relu;
  const Dropout dropout{.probability = 0.1F, .key = 1, .site = 2};
  const PackedSequences sequences = gpu.sequences(s.sequences, s.length);
  const Activation forward{
      .sequences = sequences, .kind = kind, .gated = gated, .u = u, .dropout = dropout, .out = out};
  const ActivationGradient gradient{
      .sequences = sequences, .kind = kind, .gated = gated, .u = u, .d_out = out, .dropout = dropout, .du = du};
  measure(
      state,
      [&] {
        backward ? gpu.ops().activation_gradient(gpu.queue(), gradient) : gpu.ops().activation(gpu.queue(), forward);
      },
      0, (gated ? (backward ? 10.0 : 6.0) : (backward ? 6.0 : 4.0)) * static_cast<double>(s.rows() * s.d_ff));
}
/// A relu that keeps a mask, in place as the model has it.
void masked_activation(benchmark::State& state, const Shape5& s, bool backward) {
  Gpu& gpu = Gpu::get();
  const Shape shape{s.rows(), s.d_ff};
  const TensorView u = gpu.tensor(shape), mask = gpu.tensor({s.rows(), s.d_ff / 8}, DType::u8);
  const Dropout dropout{.probability = 0.1F, .key = 1, .site = 2};
  const Activation forward{
      .sequences = gpu.sequences(s.sequences, s.length), .u = u, .dropout = dropout, .out = u, .mask = mask};
  const ActivationGradient gradient{.sequences = {}, .d_out = u, .dropout = dropout, .du = u, .mask = mask};
  measure(
      state,
      [&] {
        backward ? gpu.ops().activation_gradient(gpu.queue(), gradient) : gpu.ops().activation(gpu.queue(), forward);
      },
      0, 4.125 * static_cast<double>(s.rows() * s.d_ff));
}
/// \param gradient  f32: in place of the logits
void cross_entropy(benchmark::State& state, DType gradient) {
  Gpu& gpu = Gpu::get();
  const std::int64_t rows = 5120, vocabulary = 32128;
  const bool in_place = gradient == DType::f32;
  const CrossEntropy op{.logits = gpu.tensor({rows, vocabulary}, DType::f32),
                        .labels = gpu.upload(std::vector<std::int32_t>(rows, 7)),
                        .gradient_scale = 1e-4F,
                        .losses = gpu.tensor({rows}, DType::f32),
                        .gradient = in_place ? TensorView{} : gpu.tensor({rows, vocabulary}, gradient)};
  measure(
      state, [&] { gpu.ops().cross_entropy(gpu.queue(), op); }, 0, (in_place ? 8.0 : 6.0) * rows * vocabulary);
}
/// The head of t5-large, forward and backward, 2048 rows at a time.
void head(benchmark::State& state, DType gradient) {
  Gpu& gpu = Gpu::get();
  const std::int64_t rows = 2048, width = 1024, vocabulary = 32128;
  const TensorView x = gpu.tensor({rows, width}), w = gpu.tensor({vocabulary, width}),
                   logits = gpu.tensor({rows, vocabulary}, DType::f32), dx = gpu.tensor({rows, width}),
                   dw = gpu.tensor({vocabulary, width}, DType::f32);
  const TensorView d_logits = gradient == DType::f32 ? logits : gpu.tensor({rows, vocabulary}, gradient);
  const CrossEntropy loss{.logits = logits,
                          .labels = gpu.upload(std::vector<std::int32_t>(rows, 7)),
                          .gradient_scale = 1e-4F,
                          .losses = gpu.tensor({rows}, DType::f32),
                          .gradient = gradient == DType::f32 ? TensorView{} : d_logits};
  measure(
      state,
      [&] {
        gpu.ops().linear(gpu.queue(), {.x = x, .w = w, .y = logits});
        gpu.ops().cross_entropy(gpu.queue(), loss);
        gpu.ops().linear_weight_gradient(gpu.queue(), {.dy = d_logits, .x = x, .dw = dw});
        gpu.ops().linear_input_gradient(gpu.queue(), {.dy = d_logits, .w = w, .dx = dx});
      },
      6.0 * static_cast<double>(rows * width * vocabulary), 0);
}
void embedding_gradient(benchmark::State& state) {
  Gpu& gpu = Gpu::get();
  std::vector<std::int32_t> ids(5120);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * 7919 % 32128);
  const EmbeddingGradient op{.sequences = gpu.sequences(40),
                             .ids = gpu.upload(ids),
                             .d_out = gpu.tensor({5120, 1024}, DType::f32),
                             .dropout = {.probability = 0.1F, .key = 1, .site = 2},
                             .d_table = gpu.tensor({32128, 1024}, DType::f32)};
  measure(
      state, [&] { gpu.ops().embedding_gradient(gpu.queue(), op); }, 0, 12.0 * 5120 * 1024);
}
void adamw(benchmark::State& state) {
  Gpu& gpu = Gpu::get();
  const Shape shape{100'000'000 / 256 * 256};
  const AdamWStep op{.parameter = {gpu.tensor(shape), gpu.tensor(shape, DType::i16)},
                     .exp_avg = {gpu.tensor(shape, DType::f32), {}},
                     .exp_avg_sq = {gpu.tensor(shape, DType::f32), {}},
                     .gradient = gpu.tensor(shape),
                     .learning_rate = 1e-4,
                     .weight_decay = 0.01};
  measure(
      state, [&] { gpu.optimizer().adamw(gpu.queue(), op); }, 0, 26.0 * static_cast<double>(shape.elements()));
}
void sum_of_squares(benchmark::State& state) {
  Gpu& gpu = Gpu::get();
  const std::int64_t n = 100'000'000 / 65536 * 65536;
  const SumOfSquares op{.x = gpu.tensor({n}), .block = 65536, .partial_sums = gpu.tensor({n / 65536}, DType::f64)};
  measure(
      state, [&] { gpu.optimizer().sum_of_squares(gpu.queue(), op); }, 0, 2.0 * static_cast<double>(n));
}
void zero_and_convert(benchmark::State& state) {
  Gpu& gpu = Gpu::get();
  const Shape shape{100'000'000};
  const TensorView from = gpu.tensor(shape, DType::f32), to = gpu.tensor(shape);
  measure(
      state,
      [&] {
        gpu.ops().fill_zero(gpu.queue(), from);
        gpu.ops().convert(gpu.queue(), from, to);
      },
      0, 10.0 * static_cast<double>(shape.elements()));
}

#define SPILLWAY_WEIGHT_GRADIENTS(name, s, dw)                                                        \
  BENCHMARK_CAPTURE(weight_gradient, name##_qkv_##dw, s.rows(), s.d_model, 3 * s.inner(), DType::dw); \
  BENCHMARK_CAPTURE(weight_gradient, name##_wi_##dw, s.rows(), s.d_model, s.d_ff, DType::dw);         \
  BENCHMARK_CAPTURE(weight_gradient, name##_wo_##dw, s.rows(), s.d_ff, s.d_model, DType::dw)
#define SPILLWAY_LAYER(name, s)                                                      \
  BENCHMARK_CAPTURE(linear, name##_qkv, s.rows(), s.d_model, 3 * s.inner());         \
  BENCHMARK_CAPTURE(linear, name##_o, s.rows(), s.inner(), s.d_model);               \
  BENCHMARK_CAPTURE(linear, name##_wi, s.rows(), s.d_model, s.d_ff);                 \
  BENCHMARK_CAPTURE(linear, name##_wo, s.rows(), s.d_ff, s.d_model);                 \
  BENCHMARK_CAPTURE(input_gradient, name##_qkv, s.rows(), s.d_model, 3 * s.inner()); \
  BENCHMARK_CAPTURE(input_gradient, name##_wi, s.rows(), s.d_model, s.d_ff);         \
  BENCHMARK_CAPTURE(input_gradient, name##_wo, s.rows(), s.d_ff, s.d_model);         \
  SPILLWAY_WEIGHT_GRADIENTS(name, s, f32);                                           \
  SPILLWAY_WEIGHT_GRADIENTS(name, s, bf16);                                          \
  BENCHMARK_CAPTURE(attention, name##_self, s, false);                               \
  BENCHMARK_CAPTURE(attention, name##_cross, s, true);                               \
  BENCHMARK_CAPTURE(attention_gradient, name##_self, s, false);                      \
  BENCHMARK_CAPTURE(attention_gradient, name##_cross, s, true);                      \
  BENCHMARK_CAPTURE(residual_norm, name, s);                                         \
  BENCHMARK_CAPTURE(residual_norm_gradient, name, s);                                \
  BENCHMARK_CAPTURE(activation, name##_forward, s, false, false);                    \
  BENCHMARK_CAPTURE(activation, name##_gelu_forward, s, false, true);                \
  BENCHMARK_CAPTURE(activation, name##_gelu_backward, s, true, true);                \
  BENCHMARK_CAPTURE(activation, name##_backward, s, true, false);                    \
  BENCHMARK_CAPTURE(masked_activation, name##_forward, s, false);                    \
  BENCHMARK_CAPTURE(masked_activation, name##_backward, s, true)
SPILLWAY_LAYER(t5_large, kLarge);
SPILLWAY_LAYER(t5_3b, k3b);
BENCHMARK_CAPTURE(attention, t5_large_512_self, kLong, false);
BENCHMARK_CAPTURE(attention_gradient, t5_large_512_self, kLong, false);
BENCHMARK_CAPTURE(linear, square_8192, 8192, 8192, 8192);
BENCHMARK_CAPTURE(linear, head, 5120, 1024, 32128);
BENCHMARK_CAPTURE(cross_entropy, f32, DType::f32);
BENCHMARK_CAPTURE(cross_entropy, bf16, DType::bf16);
BENCHMARK_CAPTURE(head, f32_gradient, DType::f32);
BENCHMARK_CAPTURE(head, bf16_gradient, DType::bf16);
BENCHMARK(embedding_gradient);
BENCHMARK(adamw);
BENCHMARK(sum_of_squares);
BENCHMARK(zero_and_convert);

}  // namespace
}  // namespace spillway::kernels::cuda
