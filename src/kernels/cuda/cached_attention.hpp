// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/generation_ops.hpp"

namespace spillway::kernels::cuda {

/// Largest head_size, and most buckets of a bias table, of these kernels.
inline constexpr std::int64_t kCachedHeadSize = 1024;
inline constexpr std::int64_t kCachedBuckets = 512;

/// The ops of the same names; shapes, these limits and indices are the caller's care.
void cached_self_attention(cudaStream_t stream, const CachedSelfAttention& op);
void cached_cross_attention(cudaStream_t stream, const CachedCrossAttention& op);

}  // namespace spillway::kernels::cuda
