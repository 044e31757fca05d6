// SPDX-License-Identifier: Apache-2.0
#include "core/error.hpp"
#include "kernels/cuda/cuda_kernels.hpp"

namespace spillway::kernels::cuda {
namespace {

[[noreturn]] void refuse() { throw NotCompiled("this build has no CUDA: configure with SPILLWAY_CUDA=ON"); }

}  // namespace

std::unique_ptr<ModelOps> make_model_ops(std::span<std::byte> /*workspace*/, const ModelOpsOptions& /*options*/) {
  refuse();
}

std::unique_ptr<OptimizerOps> make_optimizer_ops(Queue& /*setup*/, std::span<std::byte> /*workspace*/) { refuse(); }

std::unique_ptr<GenerationOps> make_generation_ops(std::span<std::byte> /*workspace*/,
                                                   std::span<std::byte> /*pinned*/) {
  refuse();
}

}  // namespace spillway::kernels::cuda
