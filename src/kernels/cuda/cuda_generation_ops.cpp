// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "core/cuda/check.hpp"
#include "core/cuda/cuda_queue.hpp"
#include "core/error.hpp"
#include "kernels/cuda/advance_beams.hpp"
#include "kernels/cuda/cached_attention.hpp"
#include "kernels/cuda/cuda_kernels.hpp"
#include "kernels/cuda/log_softmax.hpp"
#include "kernels/cuda/process_scores.hpp"
#include "kernels/cuda/top_continuations.hpp"
#include "kernels/generation_checks.hpp"

namespace spillway::kernels::cuda {
namespace {

using spillway::cuda::stream_of;

void require_at_most(std::int64_t limit, std::int64_t found, const char* what) {
  if (found > limit) throw Error(fmt::format("{} must be at most {} on a GPU, found {}", what, limit, found));
}

class CudaGenerationOps : public GenerationOps {
 public:
  CudaGenerationOps(std::span<std::byte> workspace, std::span<std::byte> pinned)
      : workspace_(workspace), failure_(reinterpret_cast<NoDistribution*>(pinned.data())) {
    *failure_ = {.row = -1, .largest = 0.0F, .sum = 0.0};
    void* address = nullptr;
    spillway::cuda::check(cudaHostGetDevicePointer(&address, failure_, 0), "cudaHostGetDevicePointer");
    failure_on_gpu_ = static_cast<NoDistribution*>(address);
  }

  void cached_self_attention(Queue& queue, const CachedSelfAttention& op) override {
    check(op);
    require_at_most(kCachedHeadSize, op.head_size, "cached_self_attention: head_size");
    if (op.bias.table)
      require_at_most(kCachedBuckets, op.bias.table.extent(0), "cached_self_attention: buckets of bias.table");
    cuda::cached_self_attention(stream_of(queue), op);
  }
  void cached_cross_attention(Queue& queue, const CachedCrossAttention& op) override {
    check(op);
    require_at_most(kCachedHeadSize, op.head_size, "cached_cross_attention: head_size");
    cuda::cached_cross_attention(stream_of(queue), op);
  }
  void log_softmax(Queue& queue, const LogSoftmax& op) override {
    check(op);
    cuda::log_softmax(stream_of(queue), op, failure_on_gpu_);
  }
  void process_scores(Queue& queue, const ProcessScores& op) override {
    check(op);
    require_at_most(kProcessedLength, op.capacity, "process_scores: capacity");
    cuda::process_scores(stream_of(queue), op);
  }
  void top_continuations(Queue& queue, const TopContinuations& op) override {
    check(op);
    const std::int64_t per_row = std::min(op.count, op.logits.extent(1));
    const std::size_t needed = top_continuations_workspace_bytes(op.items, op.beams, per_row);
    if (needed > workspace_.size())
      throw Error(
          fmt::format("top_continuations: a workspace of {} bytes is needed for {} items of {} beams with {} "
                      "candidates each, found {}",
                      needed, op.items, op.beams, per_row, workspace_.size()));
    cuda::top_continuations(stream_of(queue), op, workspace_.data(), failure_on_gpu_);
  }
  void advance_beams(Queue& queue, const AdvanceBeams& op) override {
    check(op);
    require_at_most(kAdvancedBeams, op.beams, "advance_beams: beams");
    cuda::advance_beams(stream_of(queue), op);
  }
  void check_logits() override {
    const volatile NoDistribution& failure = *failure_;
    const std::int32_t row = failure.row;
    if (row < 0) return;
    throw DataError(fmt::format(
        "the logits of row {} of the generation step are no distribution: largest {}, sum of powers {}; the "
        "model's weights or activations hold NaN or infinity",
        row, static_cast<float>(failure.largest), static_cast<double>(failure.sum)));
  }

 private:
  std::span<std::byte> workspace_;
  NoDistribution* failure_;
  NoDistribution* failure_on_gpu_ = nullptr;
};

}  // namespace

std::unique_ptr<GenerationOps> make_generation_ops(std::span<std::byte> workspace, std::span<std::byte> pinned) {
  if (pinned.size() < generation_pinned_bytes())
    throw Error(fmt::format("generation ops of a GPU: {} bytes of pinned memory are needed, found {}",
                            generation_pinned_bytes(), pinned.size()));
  return std::make_unique<CudaGenerationOps>(workspace, pinned);
}

}  // namespace spillway::kernels::cuda
