// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/generation.hpp"

#include <utility>

#include "kernels/cpu/advance_beams.hpp"
#include "kernels/cpu/cached_attention.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "kernels/cpu/log_softmax.hpp"
#include "kernels/cpu/process_scores.hpp"
#include "kernels/cpu/top_continuations.hpp"
#include "kernels/generation_checks.hpp"

namespace spillway::kernels::cpu {

void CpuGenerationOps::cached_self_attention(Queue& queue, const CachedSelfAttention& op) {
  check(op);
  queue.submit([pool = pool_, op] { cpu::cached_self_attention(*pool, op); });
}

void CpuGenerationOps::cached_cross_attention(Queue& queue, const CachedCrossAttention& op) {
  check(op);
  queue.submit([pool = pool_, op] { cpu::cached_cross_attention(*pool, op); });
}

void CpuGenerationOps::log_softmax(Queue& queue, const LogSoftmax& op) {
  check(op);
  queue.submit([pool = pool_, op] { cpu::log_softmax(*pool, op); });
}

void CpuGenerationOps::process_scores(Queue& queue, const ProcessScores& op) {
  check(op);
  queue.submit([pool = pool_, op] { cpu::process_scores(*pool, op); });
}

void CpuGenerationOps::top_continuations(Queue& queue, const TopContinuations& op) {
  check(op);
  queue.submit([pool = pool_, op] { cpu::top_continuations(*pool, op); });
}

void CpuGenerationOps::advance_beams(Queue& queue, const AdvanceBeams& op) {
  check(op);
  queue.submit([op] { cpu::advance_beams(op); });
}

std::unique_ptr<GenerationOps> make_generation_ops(std::shared_ptr<ThreadPool> pool) {
  return std::make_unique<CpuGenerationOps>(std::move(pool));
}

}  // namespace spillway::kernels::cpu
