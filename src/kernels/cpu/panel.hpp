// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <cblas.h>

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
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<blasint>(out.rows),
              static_cast<blasint>(out.columns), static_cast<blasint>(a.columns), 1.0F, a.data,
              static_cast<blasint>(a.stride), b.data, static_cast<blasint>(b.stride), 0.0F, out.data,
              static_cast<blasint>(out.stride));
}

/// out = a b.
inline void product(const ConstPanel& a, const ConstPanel& b, const Panel& out) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<blasint>(out.rows),
              static_cast<blasint>(out.columns), static_cast<blasint>(a.columns), 1.0F, a.data,
              static_cast<blasint>(a.stride), b.data, static_cast<blasint>(b.stride), 0.0F, out.data,
              static_cast<blasint>(out.stride));
}

/// out += aᵀ b.
inline void add_transposed_product(const ConstPanel& a, const ConstPanel& b, const Panel& out) {
  cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, static_cast<blasint>(out.rows),
              static_cast<blasint>(out.columns), static_cast<blasint>(a.rows), 1.0F, a.data,
              static_cast<blasint>(a.stride), b.data, static_cast<blasint>(b.stride), 1.0F, out.data,
              static_cast<blasint>(out.stride));
}

}  // namespace spillway::kernels::cpu
