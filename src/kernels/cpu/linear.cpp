// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/linear.hpp"

#include "kernels/cpu/activation.hpp"
#include "kernels/cpu/mixed_gemm.hpp"

namespace spillway::kernels::cpu {

void linear(ThreadPool& pool, const Linear& op) {
  gemm(pool, MixedGemm{.transpose_b = true, .alpha = op.alpha, .a = op.x, .b = op.w, .output = op.output, .c = op.y});
  if (op.relu) activation(pool, {.sequences = {}, .kind = ActivationKind::relu, .u = op.y, .dropout = {}, .out = op.y});
}

void linear_input_gradient(ThreadPool& pool, const LinearInputGradient& op) {
  gemm(pool, MixedGemm{.alpha = op.alpha, .a = op.dy, .b = op.w, .output = op.output, .c = op.dx});
}

void linear_weight_gradient(ThreadPool& pool, const LinearWeightGradient& op) {
  gemm(pool, MixedGemm{.transpose_a = true, .alpha = op.alpha, .a = op.dy, .b = op.x, .output = op.output, .c = op.dw});
}

}  // namespace spillway::kernels::cpu
