// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/check.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.hpp"

namespace spillway::cuda {
namespace {

// Without a driver this is an error before any call was made.
bool last_error_can_be_cleared() { return cudaGetLastError() == cudaSuccess || cudaPeekAtLastError() == cudaSuccess; }

// A call that fails on any machine, with a GPU and without.
cudaError_t a_failing_call() { return cudaSetDevice(99999); }

TEST(CudaCheck, Success_IsSilent) { EXPECT_NO_THROW(check(cudaSuccess, "cudaMalloc")); }

TEST(CudaCheck, Failure_NamesTheCallTheErrorAndThePlace) {
  try {
    check(cudaErrorMemoryAllocation, "cudaMalloc of x");
    FAIL() << "nothing was thrown";
  } catch (const CudaError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("cudaMalloc of x: out of memory (cudaErrorMemoryAllocation)"));
    EXPECT_THAT(error.where().file_name(), testing::EndsWith("check_test.cpp"));
    EXPECT_EQ(error.exit_code(), ExitCode::failure);
  }
}

TEST(CudaCheck, Failure_IsNotLeftForTheNextCheckToFind) {
  if (!last_error_can_be_cleared()) GTEST_SKIP() << "no driver: " << cudaGetErrorString(cudaPeekAtLastError());

  EXPECT_THROW(check(a_failing_call(), "cudaSetDevice"), CudaError);
  const cudaError_t after_check = cudaPeekAtLastError();
  log_if_failed(a_failing_call(), "cudaSetDevice");

  EXPECT_EQ(after_check, cudaSuccess);
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
}

TEST(CudaLogIfFailed, Failure_IsALineAndNothingIsThrown) {
  testing::internal::CaptureStderr();

  log_if_failed(a_failing_call(), "cudaSetDevice");

  EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::HasSubstr("cudaSetDevice"));
}

}  // namespace
}  // namespace spillway::cuda
