// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include <cuda_runtime_api.h>

#include "kernels/cuda/attention_workspace.hpp"
#include "kernels/model_ops.hpp"

namespace spillway::kernels::cuda {

/// The op of the same name, tile by tile with a running softmax (Dao, "FlashAttention-2", 2023): no score is ever in memory.
/// f32, heads of more than 128 columns, and bf16 on GPUs before sm_80 take fp32 arithmetic alone, as on the CPU. bf16 otherwise runs
/// on tensor cores, which take bf16 operands only: each probability (relative to the largest so far) is rounded to bf16 before it is
/// multiplied with v. That moves an element of `out` by at most 2^-9 Σ_j p_j |v_j|, as much as rounding `out` itself does; log_sum_exp
/// is made of what was not rounded. Dropout masks are those of the CPU, bit for bit. Two runs give the same bits.
/// \param workspace  device memory of attention_workspace_bytes, free again when the stream has passed the op
/// \throws Error if the workspace is too small; CudaError if a launch fails
void attention(cudaStream_t stream, std::span<std::byte> workspace, const Attention& op);

/// The op of the same name, probabilities made again from log_sum_exp. On tensor cores sequences of at most 128 keys take one kernel, a
/// thread block for each head of each sequence; longer ones, and fp32 arithmetic, one over blocks of keys for d_k and d_v and one over
/// blocks of queries for d_q and d_bias. Nothing needs atomics: two runs give the same bits. On tensor cores probabilities and their
/// gradients p (dp - out · d_out) are rounded to bf16 before the products that make d_v, d_q and d_k: 2^-9 of each summand. d_bias is the
/// sum of what was not rounded: per block of queries (or per head of a sequence) in fp32, the blocks in fp64.
/// \param workspace, \throws  as of attention
void attention_gradient(cudaStream_t stream, std::span<std::byte> workspace, const AttentionGradient& op);

}  // namespace spillway::kernels::cuda
