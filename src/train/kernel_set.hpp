// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>

#include "kernels/generation_ops.hpp"
#include "kernels/model_ops.hpp"
#include "kernels/optimizer_ops.hpp"
#include "train/arena.hpp"
#include "train/job.hpp"

namespace spillway::train {

/// The ops of one device.
struct KernelSet {
  std::unique_ptr<kernels::ModelOps> model;
  std::unique_ptr<kernels::OptimizerOps> optimizer;
  std::unique_ptr<kernels::GenerationOps> generation;
  std::unique_ptr<kernels::OptimizerOps> cpu_optimizer;  // of a GPU's job whose plan has the CPU update something
};

/// Of the pool that updates beside a GPU: a core is left for the thread that feeds the GPU, where there are enough.
[[nodiscard]] kernels::cpu::ThreadPlacement threads_beside_gpu(kernels::cpu::ThreadPlacement all);

/// Those of the CPU with the job's threads, or those of a GPU in the arena's memory.
/// \param queue  a compute queue of the device, waited for
[[nodiscard]] KernelSet make_kernels(const Job& job, const Device& device, const Arena& arena, Queue& queue);

/// Bytes of device memory that a GPU's kernels need for themselves; 0 on the host.
[[nodiscard]] std::size_t kernel_workspace_bytes(const Job& job);

/// Bytes in which kernels leave the norm's sums for the host, and a GPU's what else it has to say.
[[nodiscard]] std::size_t kernel_result_bytes(const Job& job);

/// The part of the arena's results that is the norm's sums.
[[nodiscard]] TensorView norm_sums(const Job& job, const Arena& arena);

}  // namespace spillway::train
