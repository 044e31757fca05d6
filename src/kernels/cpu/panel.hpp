// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/gemm.hpp"
#include "kernels/cpu/instruction_set.hpp"
#include "kernels/cpu/lanes.hpp"

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

[[nodiscard]] inline ConstPanel as_const(const Panel& panel) {
  return {panel.data, panel.rows, panel.columns, panel.stride};
}

/// The first `rows` rows.
template <typename T>
[[nodiscard]] PanelOf<T> first_rows(const PanelOf<T>& panel, std::int64_t rows) {
  return {panel.data, rows, panel.columns, panel.stride};
}

inline void fill_zero(const Panel& panel) {
  for (std::int64_t row = 0; row < panel.rows; ++row) std::fill_n(panel.data + row * panel.stride, panel.columns, 0.0F);
}

/// Widened or rounded from one storage to the other. The two may be the same memory only if they have the same type.
template <typename From, typename To>
void copy_panel(const PanelOf<const From>& from, const PanelOf<To>& to) {
  if (static_cast<const void*>(from.data) == to.data) return;
  run_vectorised([&] [[gnu::always_inline]] {
    for (std::int64_t row = 0; row < from.rows; ++row) {
      const From* const source = from.data + row * from.stride;
      To* const target = to.data + row * to.stride;
      for (std::int64_t c = 0; c < from.columns; c += kLanes)
        store(target + c, load(source + c, from.columns - c), from.columns - c);
    }
  });
}

/// The panel itself, or its numbers widened into `memory` (rows · columns floats).
inline ConstPanel in_fp32(const ConstPanel& panel, float* /*memory*/) { return panel; }
inline ConstPanel in_fp32(const PanelOf<const BFloat16>& panel, float* memory) {
  const Panel widened{memory, panel.rows, panel.columns, panel.columns};
  copy_panel(panel, widened);
  return as_const(widened);
}

/// Where the fp32 sums of a panel grow: in it, or in `memory` until write_back rounds them.
inline Panel fp32_for(const Panel& panel, float* /*memory*/) { return panel; }
inline Panel fp32_for(const PanelOf<BFloat16>& panel, float* memory) {
  return {memory, panel.rows, panel.columns, panel.columns};
}
template <typename T>
void write_back(const Panel& sums, const PanelOf<T>& panel) {
  copy_panel(as_const(sums), panel);
}

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
