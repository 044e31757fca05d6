// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/gemm.hpp"

#include <algorithm>
#include <limits>

#include <cblas.h>
#include <fmt/format.h>

#include "core/error.hpp"
#include "kernels/cpu/few_rows_gemm.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr std::int64_t kSmallWork = 1 << 21;  // multiply-adds of a tile: some tens of microseconds
constexpr std::int64_t kLargeWork = 1 << 25;

std::int64_t parts(std::int64_t extent, std::int64_t part) { return (extent + part - 1) / part; }
std::int64_t halved(std::int64_t extent) { return parts(parts(extent, 2), 16) * 16; }

/// Large tiles lose little to packing (256 x 512: about 6 %, 128 x 128: 25 %, 64 x 64: 40 %, measured with OpenBLAS
/// 0.3.21 on AVX-512), so smaller ones are made only where there would be fewer than two or four of them.
GemmTile least_tile(std::int64_t tiles) {
  return tiles < 2 ? GemmTile{64, 64} : tiles < 4 ? GemmTile{128, 128} : GemmTile{256, 512};
}

int blas_int(std::int64_t value) {
  if (value > std::numeric_limits<int>::max())
    throw Error(fmt::format("matrix product: an extent of {} is beyond BLAS's 32-bit integers", value));
  return static_cast<int>(value);
}

}  // namespace

GemmTile gemm_tile(std::int64_t m, std::int64_t n, std::int64_t k) noexcept {
  GemmTile tile{m, n};
  for (;;) {
    const std::int64_t tiles = parts(m, tile.m) * parts(n, tile.n);
    const std::int64_t work = tile.m * tile.n * k;
    const GemmTile least = least_tile(tiles);
    if (work <= kSmallWork || (tiles >= 16 && work <= kLargeWork) || tiles >= 64) return tile;
    const bool rows = tile.m >= 2 * least.m, columns = tile.n >= 2 * least.n;
    if (!rows && !columns) return tile;
    // A tile's operands are packed for it alone, at a cost of 1 / m + 1 / n of its work: nearer to a square is cheaper
    // (224 x 512 rather than 112 x 512 of a product of 224 rows: 18 %).
    if (columns && (tile.n > tile.m || !rows)) {
      tile.n = halved(tile.n);
    } else {
      tile.m = halved(tile.m);
    }
  }
}

void gemm(const Gemm& product) {
  // The pool is the only source of threads.
  [[maybe_unused]] static const bool single_threaded = [] {
    openblas_set_num_threads(1);
    return true;
  }();
  if (product.m == 0 || product.n == 0) return;
  cblas_sgemm(CblasRowMajor, product.transpose_a ? CblasTrans : CblasNoTrans,
              product.transpose_b ? CblasTrans : CblasNoTrans, blas_int(product.m), blas_int(product.n),
              blas_int(product.k), product.alpha, product.a, blas_int(product.a_stride), product.b,
              blas_int(product.b_stride), product.beta, product.c, blas_int(product.c_stride));
}

void gemm(ThreadPool& pool, const Gemm& product) {
  if (product.m == 0 || product.n == 0) return;
  if (has_few_rows(product)) return few_rows_gemm(pool, product);
  const GemmTile tile = gemm_tile(product.m, product.n, product.k);
  const std::int64_t across = parts(product.n, tile.n);
  pool.parallel_for(parts(product.m, tile.m) * across, [&](std::int64_t i) {
    const std::int64_t row = i / across * tile.m;
    const std::int64_t column = i % across * tile.n;
    Gemm part = product;
    part.m = std::min(tile.m, product.m - row);
    part.n = std::min(tile.n, product.n - column);
    part.a += product.transpose_a ? row : row * product.a_stride;
    part.b += product.transpose_b ? column * product.b_stride : column;
    part.c += row * product.c_stride + column;
    gemm(part);
  });
}

}  // namespace spillway::kernels::cpu
