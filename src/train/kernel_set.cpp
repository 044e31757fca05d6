// SPDX-License-Identifier: Apache-2.0
#include "train/kernel_set.hpp"

#include <algorithm>

#include "core/round_up.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "kernels/cuda/cuda_kernels.hpp"
#include "train/step_executor.hpp"

namespace spillway::train {
namespace {

constexpr std::size_t kPart = 256;  // what each part of a workspace begins on

/// The parts of a GPU's workspace, in their order.
struct Parts {
  std::size_t model, optimizer, generation;
};

Parts parts_of(const Job& job) {
  const model::T5Config& config = job.source.config;
  const model::BatchLimits limits = larger(job.train_limits, job.eval_limits);
  const std::int64_t beams = job.generation.options.num_beams;
  const std::int64_t generated_rows = job.generation.items * beams;
  const std::int64_t longest = job.purpose == Purpose::generate
                                   ? limits.source_rows
                                   : std::max(job.options.data.max_source_length, job.options.data.max_target_length);
  const std::int64_t rows = std::max({limits.source_rows, limits.target_rows, generated_rows});
  return {.model = round_up(kernels::cuda::model_ops_workspace_bytes(
                                {.rows = rows,
                                 .width = config.d_model,
                                 .attention = {.longest_queries = longest,
                                               .longest_keys = longest,
                                               .query_rows = rows,
                                               .sequences = limits.sequences,
                                               .heads = config.num_heads,
                                               .buckets = config.relative_attention_num_buckets}}),
                            kPart),
          .optimizer = round_up(kernels::cuda::optimizer_workspace_bytes(), kPart),
          .generation = kernels::cuda::generation_workspace_bytes(job.generation.items, beams, 2 * beams)};
}

std::size_t norm_sum_bytes(const Job& job) {
  return job.purpose == Purpose::train ? StepExecutor::norm_sum_bytes(job.zero, job.units) : 0;
}

}  // namespace

kernels::cpu::ThreadPlacement threads_beside_gpu(kernels::cpu::ThreadPlacement all) {
  constexpr int kEnough = 3;
  if (all.threads < kEnough) return all;
  --all.threads;
  if (!all.cpus.empty()) all.cpus.pop_back();
  return all;
}

std::size_t kernel_workspace_bytes(const Job& job) {
  if (!job.on_gpu) return 0;
  const Parts parts = parts_of(job);
  return parts.model + parts.optimizer + parts.generation;
}

std::size_t kernel_result_bytes(const Job& job) {
  return norm_sum_bytes(job) + (job.on_gpu ? kernels::cuda::generation_pinned_bytes() : 0);
}

TensorView norm_sums(const Job& job, const Arena& arena) {
  return arena.bytes(plan::entry::kResults).flat(0, static_cast<std::int64_t>(norm_sum_bytes(job)));
}

KernelSet make_kernels(const Job& job, const Device& device, const Arena& arena, Queue& queue) {
  if (device.is_host()) {
    const auto pool = kernels::cpu::make_thread_pool(job.thread_placement);
    return {.model = kernels::cpu::make_model_ops(pool),
            .optimizer = kernels::cpu::make_optimizer_ops(pool),
            .generation = kernels::cpu::make_generation_ops(pool)};
  }
  const Parts parts = parts_of(job);
  const TensorView workspace = arena.bytes(plan::entry::kKernels), results = arena.bytes(plan::entry::kResults);
  const std::span<std::byte> memory(workspace.data(), workspace.bytes());
  KernelSet set{.model = kernels::cuda::make_model_ops(memory.first(parts.model), {.tf32 = job.options.train.tf32}),
                .optimizer = kernels::cuda::make_optimizer_ops(queue, memory.subspan(parts.model, parts.optimizer)),
                .generation = kernels::cuda::make_generation_ops(
                    memory.subspan(parts.model + parts.optimizer),
                    std::span(results.data(), results.bytes()).subspan(norm_sum_bytes(job)))};
  if (!job.plan.placement.on_cpu.empty())
    set.cpu_optimizer =
        kernels::cpu::make_optimizer_ops(kernels::cpu::make_thread_pool(threads_beside_gpu(job.thread_placement)));
  return set;
}

}  // namespace spillway::train
