// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/cpu/gemm.hpp"

namespace spillway::kernels::cpu {

/// A matrix whose rows lie `stride` elements apart: one head's columns of a wider matrix.
template <typename T>
struct PanelOf {
  T* data;
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t stride;
};
using Panel = PanelOf<float>;
using ConstPanel = PanelOf<const float>;

/// out = a bᵀ.
inline void product_with_transposed(const ConstPanel& a, const ConstPanel& b, const Panel& out) {
  gemm({.transpose_b = true,
        .m = out.rows,
        .n = out.columns,
        .k = a.columns,
        .a = a.data,
        .a_stride = a.stride,
        .b = b.data,
        .b_stride = b.stride,
        .c = out.data,
        .c_stride = out.stride});
}

/// out = a b.
inline void product(const ConstPanel& a, const ConstPanel& b, const Panel& out) {
  gemm({.m = out.rows,
        .n = out.columns,
        .k = a.columns,
        .a = a.data,
        .a_stride = a.stride,
        .b = b.data,
        .b_stride = b.stride,
        .c = out.data,
        .c_stride = out.stride});
}

/// out += aᵀ b.
inline void add_transposed_product(const ConstPanel& a, const ConstPanel& b, const Panel& out) {
  gemm({.transpose_a = true,
        .m = out.rows,
        .n = out.columns,
        .k = a.rows,
        .a = a.data,
        .a_stride = a.stride,
        .b = b.data,
        .b_stride = b.stride,
        .beta = 1.0F,
        .c = out.data,
        .c_stride = out.stride});
}

}  // namespace spillway::kernels::cpu
