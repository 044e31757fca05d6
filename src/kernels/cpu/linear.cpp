// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/linear.hpp"

#include "kernels/cpu/gemm.hpp"
#include "kernels/cpu/rows.hpp"

namespace spillway::kernels::cpu {

void linear(ThreadPool& pool, const Linear& op) {
  const std::int64_t in = op.w.extent(1), out = op.w.extent(0);
  gemm(pool, {.transpose_b = true,
              .m = op.x.extent(0),
              .n = out,
              .k = in,
              .alpha = op.alpha,
              .a = floats(op.x),
              .a_stride = in,
              .b = floats(op.w),
              .b_stride = in,
              .beta = op.output == Output::add ? 1.0F : 0.0F,
              .c = floats(op.y),
              .c_stride = out});
}

void linear_input_gradient(ThreadPool& pool, const LinearInputGradient& op) {
  const std::int64_t in = op.w.extent(1), out = op.w.extent(0);
  gemm(pool, {.m = op.dy.extent(0),
              .n = in,
              .k = out,
              .alpha = op.alpha,
              .a = floats(op.dy),
              .a_stride = out,
              .b = floats(op.w),
              .b_stride = in,
              .beta = op.output == Output::add ? 1.0F : 0.0F,
              .c = floats(op.dx),
              .c_stride = in});
}

void linear_weight_gradient(ThreadPool& pool, const LinearWeightGradient& op) {
  const std::int64_t in = op.dw.extent(1), out = op.dw.extent(0);
  gemm(pool, {.transpose_a = true,
              .m = out,
              .n = in,
              .k = op.x.extent(0),
              .alpha = op.alpha,
              .a = floats(op.dy),
              .a_stride = out,
              .b = floats(op.x),
              .b_stride = in,
              .beta = 1.0F,
              .c = floats(op.dw),
              .c_stride = in});
}

}  // namespace spillway::kernels::cpu
