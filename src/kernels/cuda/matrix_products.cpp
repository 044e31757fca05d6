// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/matrix_products.hpp"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

#include "core/error.hpp"
#include "core/round_up.hpp"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/workspace.hpp"

namespace spillway::kernels::cuda {
namespace {

void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(fmt::format("{} failed: {}", call, cublasLtGetStatusString(status)), ExitCode::failure);
}

template <typename HandleType, cublasStatus_t (*Destroy)(HandleType)>
struct Traits {
  using Handle = HandleType;
  static Handle null() noexcept { return nullptr; }
  static void destroy(Handle handle) noexcept { Destroy(handle); }
};
using Operation = UniqueHandle<Traits<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>>;
using Layout = UniqueHandle<Traits<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>>;
using Preference = UniqueHandle<Traits<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>>;

cudaDataType_t type_of(DType dtype) {
  if (dtype == DType::f32) return CUDA_R_32F;
  return dtype == DType::f16 ? CUDA_R_16F : CUDA_R_16BF;
}

/// A row-major matrix in memory, which to cuBLASLt is a column-major one of `columns` rows.
Layout make_layout(DType dtype, std::int64_t rows, std::int64_t columns) {
  cublasLtMatrixLayout_t layout = nullptr;
  check(cublasLtMatrixLayoutCreate(&layout, type_of(dtype), static_cast<std::uint64_t>(columns),
                                   static_cast<std::uint64_t>(rows), columns),
        "cublasLtMatrixLayoutCreate");
  return Layout(layout);
}

/// cᵀ = op(b)ᵀ op(a)ᵀ: cuBLASLt's first factor is b, its second a.
struct Description {
  Operation operation;
  Layout a, b, c;
};

Description describe(bool transpose_a, bool transpose_b, bool relu, DType factors, DType result, std::int64_t m,
                     std::int64_t n, std::int64_t k, bool tf32) {
  cublasLtMatmulDesc_t operation = nullptr;
  const bool on_tensor_cores = tf32 && factors == DType::f32;
  check(cublasLtMatmulDescCreate(&operation, on_tensor_cores ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
                                 CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  Description description{.operation = Operation(operation),
                          .a = transpose_a ? make_layout(factors, k, m) : make_layout(factors, m, k),
                          .b = transpose_b ? make_layout(factors, n, k) : make_layout(factors, k, n),
                          .c = make_layout(result, m, n)};
  const cublasOperation_t first = transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t second = transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  check(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof(first)),
        "cublasLtMatmulDescSetAttribute");
  check(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof(second)),
        "cublasLtMatmulDescSetAttribute");
  if (relu) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_RELU;
    check(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue)),
          "cublasLtMatmulDescSetAttribute");
  }
  return description;
}

template <typename T>
void prefer(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute, T value) {
  check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)),
        "cublasLtMatmulPreferenceSetAttribute");
}

/// Batches have any number of tokens; products of about as many are made in the same way. Those of a few rows, as generation makes them
/// a token at a time, end in tiles of which a coarser class would leave half empty.
std::int64_t token_class(std::int64_t tokens) {
  constexpr std::int64_t kFew = 256, kFine = 16, kStep = 128;
  return round_up(std::max<std::int64_t>(tokens, 1), tokens <= kFew ? kFine : kStep);
}

/// The power of two, up to 16, that all three addresses are multiples of. No kernel needs more, and where a buffer happens to lie
/// changes no bit of the result.
std::size_t common_alignment(const MatrixProduct& product) {
  constexpr std::uintptr_t kMost = 16;
  const auto addresses = reinterpret_cast<std::uintptr_t>(product.a.data()) |
                         reinterpret_cast<std::uintptr_t>(product.b.data()) |
                         reinterpret_cast<std::uintptr_t>(product.c.data()) | kMost;
  return std::size_t{1} << std::countr_zero(addresses);
}

}  // namespace

MatrixProducts::MatrixProducts(std::span<std::byte> workspace, const ModelOpsOptions& options)
    : workspace_(workspace.first(std::min(workspace.size(), kProductBytes))), tf32_(options.tf32) {
  if (workspace.size() < kProductBytes)
    throw Error(fmt::format("matrix products need a workspace of {} bytes, found {}", kProductBytes, workspace.size()));
  cublasLtHandle_t handle = nullptr;
  check(cublasLtCreate(&handle), "cublasLtCreate");
  handle_ = UniqueHandle<HandleTraits>(handle);
}

MatrixProducts::Class MatrixProducts::class_of(const MatrixProduct& product) {
  const std::int64_t m = product.c.extent(0), n = product.c.extent(1);
  const std::int64_t k = product.a.extent(product.transpose_a ? 0 : 1);
  // The weight's gradient sums over tokens, elsewhere they are the rows of the result.
  return {.transpose_a = product.transpose_a,
          .transpose_b = product.transpose_b,
          .relu = product.relu,
          .factors = product.a.dtype(),
          .result = product.c.dtype(),
          .m = product.transpose_a ? m : token_class(m),
          .n = n,
          .k = product.transpose_a ? token_class(k) : k,
          .alignment = common_alignment(product)};
}

cublasLtMatmulAlgo_t MatrixProducts::find(const Class& wanted) const {
  const Description description = describe(wanted.transpose_a, wanted.transpose_b, wanted.relu, wanted.factors,
                                           wanted.result, wanted.m, wanted.n, wanted.k, tf32_);
  cublasLtMatmulPreference_t created = nullptr;
  check(cublasLtMatmulPreferenceCreate(&created), "cublasLtMatmulPreferenceCreate");
  const Preference preference(created);
  prefer(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_.size());
  // A sum that is split may not be rounded to 16 bits in between.
  prefer(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  for (const auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                               CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    prefer(preference, attribute, static_cast<std::uint32_t>(wanted.alignment));
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_.get(), description.operation.get(), description.b.get(), description.a.get(), description.c.get(),
      description.c.get(), preference.get(), 1, &result, &found);
  if (status != CUBLAS_STATUS_SUCCESS || found == 0 || result.state != CUBLAS_STATUS_SUCCESS)
    throw Error(fmt::format("cuBLASLt has no algorithm for a product of {} into {}, m = {}, n = {}, k = {}: {}",
                            name_of(wanted.factors), name_of(wanted.result), wanted.m, wanted.n, wanted.k,
                            cublasLtGetStatusString(status)),
                ExitCode::failure);
  return result.algo;
}

const cublasLtMatmulAlgo_t& MatrixProducts::algorithm(const Class& wanted) {
  auto place = algorithms_.find(wanted);
  if (place == algorithms_.end()) place = algorithms_.emplace(wanted, find(wanted)).first;
  return place->second;
}

void MatrixProducts::run(cudaStream_t stream, const MatrixProduct& product) {
  const std::int64_t m = product.c.extent(0), n = product.c.extent(1);
  const std::int64_t k = product.a.extent(product.transpose_a ? 0 : 1);
  if (m * n == 0) return;
  if (k == 0) {
    if (product.output == Output::overwrite) fill_zero(stream, product.c);
    return;
  }
  const Class wanted = class_of(product);
  const Description description =
      describe(product.transpose_a, product.transpose_b, product.relu, wanted.factors, wanted.result, m, n, k, tf32_);
  const float beta = product.output == Output::add ? 1.0F : 0.0F;
  const auto multiply = [&](const Class& of) {
    return cublasLtMatmul(handle_.get(), description.operation.get(), &product.alpha, product.b.data(),
                          description.b.get(), product.a.data(), description.a.get(), &beta, product.c.data(),
                          description.c.get(), product.c.data(), description.c.get(), &algorithm(of), workspace_.data(),
                          workspace_.size(), stream);
  };
  cublasStatus_t status = multiply(wanted);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) {  // narrow odd shapes: what serves their class may not serve them
    Class exact = wanted;
    exact.m = m;
    exact.k = k;
    status = multiply(exact);
  }
  check(status, "cublasLtMatmul");
}

}  // namespace spillway::kernels::cuda
