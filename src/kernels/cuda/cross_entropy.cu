// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/combine_block.cuh"
#include "kernels/cuda/cross_entropy.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/storage.cuh"

namespace spillway::kernels::cuda {
namespace {

constexpr int kRowThreads = 512;

/// What one thread knows of its logits after one pass: the largest, Σ e^(x - largest) and Σ x.
struct RunningSums {
  float largest = -INFINITY;
  float exponentials = 0.0F;
  float logits = 0.0F;

  __device__ void take(float x) {
    logits += x;
    if (x > largest) {
      exponentials = exponentials * expf(largest - x) + 1.0F;
      largest = x;
    } else if (x != -INFINITY) {  // of which e^ is 0, also where the largest is none
      exponentials += expf(x - largest);
    }
  }
};

/// A block for each row.
__global__ void losses_of_rows(float* all_logits, const std::int32_t* labels, std::int64_t vocabulary, double smoothing,
                               double scale, float* losses) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t label = labels[row];
  if (label < 0 || label >= vocabulary) __trap();
  float* logits = all_logits + row * vocabulary;
  const float label_logit = logits[label];  // before anything is overwritten

  RunningSums sums;
  for (std::int64_t c = threadIdx.x; c < vocabulary; c += kRowThreads) sums.take(logits[c]);
  const float largest = combine_block<kRowThreads>(sums.largest, [](float a, float b) { return fmaxf(a, b); });
  // A thread without logits, or with none above -infinity, adds nothing.
  const float factor = sums.largest == -INFINITY ? 1.0F : expf(sums.largest - largest);
  const double exponentials = block_sum<kRowThreads>(static_cast<double>(sums.exponentials * factor));

  __shared__ float probability_scale;
  if (smoothing > 0.0) {
    const double differences = block_sum<kRowThreads>(static_cast<double>(sums.logits)) -
                               static_cast<double>(vocabulary) * static_cast<double>(largest);
    sums.logits = static_cast<float>(differences / static_cast<double>(vocabulary));
  }
  if (threadIdx.x == 0) {
    // -log p[v] = log Σ e^(x - largest) - (x[v] - largest)
    const double label_difference = static_cast<double>(label_logit - largest);
    double loss = log(exponentials) - (1.0 - smoothing) * label_difference;
    if (smoothing > 0.0) loss -= smoothing * static_cast<double>(sums.logits);
    losses[row] = static_cast<float>(loss);
    probability_scale = static_cast<float>(scale / exponentials);
  }
  if (scale == 0.0) return;
  __syncthreads();
  const auto smoothed = static_cast<float>(scale * smoothing / static_cast<double>(vocabulary));
  const auto of_label = static_cast<float>(scale * (1.0 - smoothing));
  for (std::int64_t c = threadIdx.x; c < vocabulary; c += kRowThreads) {
    const float gradient = expf(logits[c] - largest) * probability_scale - smoothed;
    logits[c] = c == label ? gradient - of_label : gradient;
  }
}

}  // namespace

void cross_entropy(cudaStream_t stream, const CrossEntropy& op) {
  const std::int64_t rows = op.logits.extent(0), vocabulary = op.logits.extent(1);
  if (rows == 0) return;
  losses_of_rows<<<static_cast<unsigned>(rows), kRowThreads, 0, stream>>>(
      elements<float>(op.logits), elements<std::int32_t>(op.labels), vocabulary,
      static_cast<double>(op.label_smoothing), static_cast<double>(op.gradient_scale), elements<float>(op.losses));
  check_launch("cross_entropy");
}

}  // namespace spillway::kernels::cuda
