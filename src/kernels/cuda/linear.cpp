// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/linear.hpp"

#include "kernels/cuda/mixed_products.hpp"

namespace spillway::kernels::cuda {

void linear(cudaStream_t stream, MatrixProducts& products, const Linear& op) {
  products.run(
      stream,
      {.transpose_b = true, .alpha = op.alpha, .a = op.x, .b = op.w, .output = op.output, .relu = op.relu, .c = op.y});
}

void linear_input_gradient(cudaStream_t stream, MatrixProducts& products, std::span<std::byte> pieces,
                           const LinearInputGradient& op) {
  if (op.dy.dtype() != op.w.dtype()) return mixed_input_gradient(stream, products, pieces, op);
  products.run(stream, {.alpha = op.alpha, .a = op.dy, .b = op.w, .output = op.output, .c = op.dx});
}

void linear_weight_gradient(cudaStream_t stream, MatrixProducts& products, std::span<std::byte> pieces,
                            const LinearWeightGradient& op) {
  if (op.dy.dtype() != op.x.dtype()) return mixed_weight_gradient(stream, products, pieces, op);
  products.run(stream,
               {.transpose_a = true, .alpha = op.alpha, .a = op.dy, .b = op.x, .output = op.output, .c = op.dw});
}

}  // namespace spillway::kernels::cuda
