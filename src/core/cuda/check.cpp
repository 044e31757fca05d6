// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/check.hpp"

#include <string>

#include <fmt/format.h>

#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway::cuda {
namespace {

std::string describe(cudaError_t result, const char* call) {
  return fmt::format("{}: {} ({})", call, cudaGetErrorString(result), cudaGetErrorName(result));
}

}  // namespace

void throw_cuda_error(cudaError_t result, const char* call, std::source_location where) {
  // Else the next launch that is checked would report this one's error.
  static_cast<void>(cudaGetLastError());
  throw CudaError(describe(result, call), where);
}

void log_if_failed(cudaError_t result, const char* call) noexcept {
  if (result == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  try {
    log::error(describe(result, call));
  } catch (...) {  // no memory for the words: the error itself is then reported by others
  }
}

}  // namespace spillway::cuda
