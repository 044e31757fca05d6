// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <source_location>

#include <cuda_runtime_api.h>

namespace spillway::cuda {

/// Clears the thread's last CUDA error and throws CudaError with the call, the error's text and its name.
[[noreturn]] void throw_cuda_error(cudaError_t result, const char* call, std::source_location where);

/// \param call  what is checked, for the message. After an asynchronous failure it is the first call that heard of it.
/// \throws CudaError
inline void check(cudaError_t result, const char* call, std::source_location where = std::source_location::current()) {
  if (result != cudaSuccess) throw_cuda_error(result, call, where);
}

/// The same for destructors: a line in the log instead of an exception.
void log_if_failed(cudaError_t result, const char* call) noexcept;

}  // namespace spillway::cuda
