// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/mixed_gemm.hpp"

#include <algorithm>
#include <vector>

#include "kernels/cpu/gemm.hpp"
#include "kernels/cpu/panel.hpp"
#include "kernels/cpu/rows.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr std::int64_t kTile = 512;   // rows and columns of c at most
constexpr std::int64_t kDepth = 384;  // of k at a time: about what OpenBLAS packs at once
constexpr std::int64_t kTileFloats = kTile * kTile;
constexpr std::int64_t kPanelFloats = kTile * kDepth;

struct Workspace {
  std::vector<float> c = std::vector<float>(kTileFloats);
  std::vector<float> a = std::vector<float>(kPanelFloats);
  std::vector<float> b = std::vector<float>(kPanelFloats);
};

/// The calling thread's, whatever the dtype of c.
Workspace& thread_workspace() {
  thread_local Workspace workspace;
  return workspace;
}

/// rows by columns from (row, column) on.
struct Block {
  std::int64_t row, column, rows, columns;

  [[nodiscard]] Block transposed() const { return {column, row, columns, rows}; }
};

template <typename T, typename View>
PanelOf<T> panel_of(const View& matrix, const Block& block) {
  const std::int64_t stride = matrix.extent(1);
  return {reinterpret_cast<T*>(matrix.data()) + block.row * stride + block.column, block.rows, block.columns, stride};
}

/// The block in fp32, in place or widened into `memory`.
ConstPanel in_fp32(const ConstTensorView& matrix, const Block& block, float* memory) {
  ConstPanel panel{};
  visit_storage(matrix.dtype(), [&]<typename T>(std::type_identity<T>) {
    panel = cpu::in_fp32(panel_of<const T>(matrix, block), memory);
  });
  return panel;
}

/// c's block: alpha · Σ over the depth, on the calling thread.
template <typename T>
void multiply(const MixedGemm& product, std::int64_t depth, const Block& block) {
  Workspace& workspace = thread_workspace();
  const auto target = panel_of<T>(product.c, block);
  const Panel sum = fp32_for(target, workspace.c.data());
  const bool add = product.output == Output::add;
  if (add) copy_panel(panel_of<const T>(product.c, block), sum);
  for (std::int64_t at = 0; at < depth; at += kDepth) {
    const std::int64_t step = std::min(kDepth, depth - at);
    const Block of_a{block.row, at, block.rows, step}, of_b{at, block.column, step, block.columns};
    const ConstPanel a = in_fp32(product.a, product.transpose_a ? of_a.transposed() : of_a, workspace.a.data());
    const ConstPanel b = in_fp32(product.b, product.transpose_b ? of_b.transposed() : of_b, workspace.b.data());
    gemm({.transpose_a = product.transpose_a,
          .transpose_b = product.transpose_b,
          .m = block.rows,
          .n = block.columns,
          .k = step,
          .alpha = product.alpha,
          .a = a.data,
          .a_stride = a.stride,
          .b = b.data,
          .b_stride = b.stride,
          .beta = add || at > 0 ? 1.0F : 0.0F,
          .c = sum.data,
          .c_stride = sum.stride});
  }
  if (depth == 0 && !add) fill_zero(sum);
  write_back(sum, target);
}

}  // namespace

void gemm(ThreadPool& pool, const MixedGemm& product) {
  const std::int64_t m = product.c.extent(0), n = product.c.extent(1);
  const std::int64_t k = product.a.extent(product.transpose_a ? 0 : 1);
  const auto is_f32 = [](const ConstTensorView& view) { return view.dtype() == DType::f32; };
  if (is_f32(product.a) && is_f32(product.b) && is_f32(product.c))
    return gemm(pool, Gemm{.transpose_a = product.transpose_a,
                           .transpose_b = product.transpose_b,
                           .m = m,
                           .n = n,
                           .k = k,
                           .alpha = product.alpha,
                           .a = floats(product.a),
                           .a_stride = product.a.extent(1),
                           .b = floats(product.b),
                           .b_stride = product.b.extent(1),
                           .beta = product.output == Output::add ? 1.0F : 0.0F,
                           .c = floats(product.c),
                           .c_stride = n});
  if (m == 0 || n == 0) return;
  GemmTile tile = gemm_tile(m, n, k);
  tile = {std::min(tile.m, kTile), std::min(tile.n, kTile)};
  const std::int64_t across = (n + tile.n - 1) / tile.n;
  visit_storage(product.c.dtype(), [&]<typename T>(std::type_identity<T>) {
    pool.parallel_for((m + tile.m - 1) / tile.m * across, [&](std::int64_t i) {
      const std::int64_t row = i / across * tile.m;
      const std::int64_t column = i % across * tile.n;
      multiply<T>(product, k, {row, column, std::min(tile.m, m - row), std::min(tile.n, n - column)});
    });
  });
}

std::size_t mixed_gemm_workspace_bytes(DType dtype, int threads) noexcept {
  if (dtype == DType::f32) return 0;
  return static_cast<std::size_t>(threads) * (kTileFloats + 2 * kPanelFloats) * sizeof(float);
}

}  // namespace spillway::kernels::cpu
