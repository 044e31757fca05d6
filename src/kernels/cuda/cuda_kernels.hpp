// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "kernels/cuda/attention_workspace.hpp"
#include "kernels/generation_ops.hpp"
#include "kernels/model_ops.hpp"
#include "kernels/optimizer_ops.hpp"

namespace spillway::kernels::cuda {

/// Upper limits of the ops of a job.
struct ModelOpsSizes {
  std::int64_t rows = 0;   // tokens of a micro-batch
  std::int64_t width = 0;  // of what is normed
  AttentionSizes attention;
};

struct ModelOpsOptions {
  bool tf32 = false;  // f32 products on tensor cores, whose factors have 10 bits after the point
};

/// The workspace of all ModelOps: for the ledger. Needs no GPU.
[[nodiscard]] std::size_t model_ops_workspace_bytes(const ModelOpsSizes& sizes) noexcept;

/// ModelOps in device memory, on CUDA queues: one queue for each object, since the ops share `workspace`. All arithmetic is that of
/// the CPU's ops but for the order of sums; two runs give the same bits.
/// \param workspace  device memory on a 256-byte boundary, for as long as the object lives
/// \throws NotCompiled in a build without CUDA
[[nodiscard]] std::unique_ptr<ModelOps> make_model_ops(std::span<std::byte> workspace,
                                                       const ModelOpsOptions& options = {});

/// Device memory that the OptimizerOps of a GPU need.
[[nodiscard]] std::size_t optimizer_workspace_bytes() noexcept;

/// The maths of the optimizer on a GPU, with the bits of the CPU form.
/// \param setup      a queue of the GPU, waited for; the ops may then be given any one queue at a time
/// \param workspace  optimizer_workspace_bytes() of device memory on a boundary of 16 bytes; must outlive the ops' work
[[nodiscard]] std::unique_ptr<OptimizerOps> make_optimizer_ops(Queue& setup, std::span<std::byte> workspace);

/// Device memory that the GenerationOps of a GPU need for top_continuations of at most this size.
[[nodiscard]] std::size_t generation_workspace_bytes(std::int64_t items, std::int64_t beams,
                                                     std::int64_t count) noexcept;
/// Pinned host memory that they need.
[[nodiscard]] std::size_t generation_pinned_bytes() noexcept;

/// Generation on a GPU. Logits without a distribution are reported by check_logits(); an object that reported them is to be given up.
/// \param workspace  generation_workspace_bytes() of device memory on a boundary of 16 bytes; must outlive the ops' work
/// \param pinned     generation_pinned_bytes() of pinned host memory, which the GPU writes to; likewise
[[nodiscard]] std::unique_ptr<GenerationOps> make_generation_ops(std::span<std::byte> workspace,
                                                                 std::span<std::byte> pinned);

}  // namespace spillway::kernels::cuda
