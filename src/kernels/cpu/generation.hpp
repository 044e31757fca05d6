// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "kernels/cpu/thread_pool.hpp"
#include "kernels/generation_ops.hpp"

namespace spillway::kernels::cpu {

/// GenerationOps on the host. Shapes and dtypes are checked before anything is queued; indices (ancestry,
/// row_sequence) are the caller's care.
class CpuGenerationOps final : public GenerationOps {
 public:
  explicit CpuGenerationOps(std::shared_ptr<ThreadPool> pool) : pool_(std::move(pool)) {}

  void cached_self_attention(Queue& queue, const CachedSelfAttention& op) override;
  void cached_cross_attention(Queue& queue, const CachedCrossAttention& op) override;
  void log_softmax(Queue& queue, const LogSoftmax& op) override;
  void process_scores(Queue& queue, const ProcessScores& op) override;
  void top_continuations(Queue& queue, const TopContinuations& op) override;
  void advance_beams(Queue& queue, const AdvanceBeams& op) override;
  void check_logits() override {}

 private:
  std::shared_ptr<ThreadPool> pool_;
};

}  // namespace spillway::kernels::cpu
