// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstddef>
#include <map>
#include <span>

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "core/unique_handle.hpp"
#include "kernels/cuda/cuda_kernels.hpp"

namespace spillway::kernels::cuda {

/// c = alpha · op(a) op(b) (+ c), or of that max(·, 0) if `relu`, op(a) (m, k), op(b) (k, n), c (m, n), row-major. a and b are both f32, both bf16 or both f16, c is
/// f32 or what they are. A transposed a lies in memory as (k, m), a transposed b as (n, k).
struct MatrixProduct {
  bool transpose_a = false;
  bool transpose_b = false;
  float alpha = 1.0F;
  ConstTensorView a, b;
  Output output = Output::overwrite;
  bool relu = false;
  TensorView c;
};

/// Products through cuBLASLt, summed in fp32 and rounded once; some of its kernels round to bf16 before they add to a bf16 result, and
/// then once more. The algorithm depends on the dtypes and on the shape, in which the
/// number of tokens counts in classes, and is kept: the same product has the same bits whenever it is computed again.
class MatrixProducts {
 public:
  /// \param workspace  device memory, at least kProductBytes, on a 256-byte boundary
  MatrixProducts(std::span<std::byte> workspace, const ModelOpsOptions& options);
  void run(cudaStream_t stream, const MatrixProduct& product);

 private:
  struct HandleTraits {
    using Handle = cublasLtHandle_t;
    static Handle null() noexcept { return nullptr; }
    static void destroy(Handle handle) noexcept { cublasLtDestroy(handle); }
  };
  /// All that the choice of an algorithm looks at.
  struct Class {
    bool transpose_a, transpose_b, relu;
    DType factors, result;
    std::int64_t m, n, k;  // of a whole class of products
    std::size_t alignment;
    auto operator<=>(const Class&) const = default;
  };

  [[nodiscard]] static Class class_of(const MatrixProduct& product);
  [[nodiscard]] cublasLtMatmulAlgo_t find(const Class& wanted) const;
  /// The one kept for the class, looked for at first use.
  [[nodiscard]] const cublasLtMatmulAlgo_t& algorithm(const Class& wanted);

  UniqueHandle<HandleTraits> handle_;
  std::span<std::byte> workspace_;
  bool tf32_;
  std::map<Class, cublasLtMatmulAlgo_t> algorithms_;
};

}  // namespace spillway::kernels::cuda
