// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include <cuda_runtime_api.h>

#include "kernels/model_ops.hpp"

namespace spillway::kernels::cuda {

/// An id outside the table stops the kernel: the stream reports it as an error where it is waited for, as the host's queue does.
void embedding(cudaStream_t stream, const Embedding& op);
/// \param workspace  at least embedding_workspace_bytes(rows), on a 256-byte boundary
void embedding_gradient(cudaStream_t stream, std::span<std::byte> workspace, const EmbeddingGradient& op);

}  // namespace spillway::kernels::cuda
