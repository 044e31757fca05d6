// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "kernels/cpu/thread_pool.hpp"
#include "kernels/model_ops.hpp"

namespace spillway::kernels::cpu {

/// c = alpha · op(a) op(b) (+ c), op(a) (m, k), op(b) (k, n), c (m, n), each f32 or bf16.
/// A transposed a lies in memory as (k, m), a transposed b as (n, k).
struct MixedGemm {
  bool transpose_a = false;
  bool transpose_b = false;
  float alpha = 1.0F;
  ConstTensorView a, b;
  Output output = Output::overwrite;
  TensorView c;
};

/// With f32 alone the product of gemm.hpp. bf16 is widened tile by tile and summed in fp32; each element of a bf16 c is
/// rounded once, after the old value has been added. Does not depend on the number of threads.
void gemm(ThreadPool& pool, const MixedGemm& product);

/// What the threads keep for tiles in fp32 if activations and weights are `dtype`, nothing for f32: for the ledger.
[[nodiscard]] std::size_t mixed_gemm_workspace_bytes(DType dtype, int threads) noexcept;

}  // namespace spillway::kernels::cpu
