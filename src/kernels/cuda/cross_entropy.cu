// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/combine_block.cuh"
#include "kernels/cuda/cross_entropy.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/logit_row.cuh"

namespace spillway::kernels::cuda {
namespace {

/// G: float or what the gradient is stored as.
template <typename G>
struct Tensors {
  float* logits;
  const std::int32_t* labels;
  float* losses;
  G* gradient;
};

/// A block for each row, which is read once where a LogitRow holds all of it.
template <bool kWhole, typename G>
__global__ void __launch_bounds__(kLogitThreads, 2)
    losses_of_rows(Tensors<G> tensors, int vocabulary, int shared_quads, double smoothing, double scale) {
  const std::int64_t row = blockIdx.x;
  const std::int32_t label = tensors.labels[row];
  if (label < 0 || label >= vocabulary) __trap();
  float* all = tensors.logits + row * vocabulary;
  const float label_logit = all[label];  // before anything is overwritten
  LogitRow<kWhole> logits(all, vocabulary, shared_quads);

  float largest = -INFINITY;
  logits.read([&](const Quad<float>& x) {
    for (const float value : x.values) largest = fmaxf(largest, value);
  });
  largest = combine_block<kLogitThreads>(largest, [](float a, float b) { return fmaxf(a, b); });

  float exponential_sum = 0.0F, difference_sum = 0.0F;
  const auto exponential = [largest](Quad<float> x) {
    for (float& value : x.values) value = expf(value - largest);
    return x;
  };
  logits.replace([&](const Quad<float>& x, int left) {
    if (smoothing > 0.0) {
#pragma unroll
      for (int i = 0; i < kQuad; ++i)
        if (i < left) difference_sum += x.values[i] - largest;
    }
    const Quad<float> e = exponential(x);
    exponential_sum += (e.values[0] + e.values[1]) + (e.values[2] + e.values[3]);  // 0 behind the row
    return e;
  });
  const double exponentials = block_sum<kLogitThreads>(static_cast<double>(exponential_sum));
  const double differences = smoothing > 0.0 ? block_sum<kLogitThreads>(static_cast<double>(difference_sum)) : 0.0;
  if (scale != 0.0) {
    const auto probability_scale = static_cast<float>(scale / exponentials);
    const auto smoothed = static_cast<float>(scale * smoothing / static_cast<double>(vocabulary));
    const auto of_label = static_cast<float>(scale * (1.0 - smoothing));
    G* gradient = tensors.gradient + row * vocabulary;
    const auto write = [&](Quad<float> quad, int column, int left) {
      for (float& value : quad.values) value = value * probability_scale - smoothed;
      if (static_cast<unsigned>(label - column) < kQuad) {
#pragma unroll
        for (int i = 0; i < kQuad; ++i)
          if (column + i == label) quad.values[i] -= of_label;
      }
      store_quad<kWhole>(gradient + column, quad, left);
    };
    logits.write(write, exponential);
  }
  if (threadIdx.x == 0) {
    // -log p[v] = log Σ e^(x - largest) - (x[v] - largest)
    const double label_difference = static_cast<double>(label_logit - largest);
    tensors.losses[row] = static_cast<float>(log(exponentials) - (1.0 - smoothing) * label_difference -
                                             smoothing / static_cast<double>(vocabulary) * differences);
  }
}

template <typename G>
void launch(cudaStream_t stream, const CrossEntropy& op, G* gradient) {
  const std::int64_t rows = op.logits.extent(0), vocabulary = op.logits.extent(1);
  const Tensors<G> tensors{.logits = elements<float>(op.logits),
                           .labels = elements<std::int32_t>(op.labels),
                           .losses = elements<float>(op.losses),
                           .gradient = gradient};
  const bool whole = quads_are_whole(vocabulary, tensors.logits, gradient);
  const auto kernel = whole ? losses_of_rows<true, G> : losses_of_rows<false, G>;
  const int shared_quads = shared_quads_of(vocabulary);
  const std::size_t shared_bytes = static_cast<std::size_t>(shared_quads) * kLogitThreads * sizeof(float4);
  spillway::cuda::check(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
      "cudaFuncSetAttribute");
  kernel<<<static_cast<unsigned>(rows), kLogitThreads, shared_bytes, stream>>>(
      tensors, static_cast<int>(vocabulary), shared_quads, static_cast<double>(op.label_smoothing),
      static_cast<double>(op.gradient_scale));
}

}  // namespace

void cross_entropy(cudaStream_t stream, const CrossEntropy& op) {
  if (op.logits.extent(0) == 0) return;
  if (op.gradient) {
    visit_storage(op.gradient.dtype(),
                  [&]<typename G>(std::type_identity<G>) { launch(stream, op, elements<G>(op.gradient)); });
  } else {
    launch(stream, op, elements<float>(op.logits));
  }
  check_launch("cross_entropy");
}

}  // namespace spillway::kernels::cuda
