// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/cuda_device.hpp"
#include "core/error.hpp"

namespace spillway {
namespace {

constexpr const char* kNoSuchGpu = "GPU-00000000-0000-0000-0000-000000000000";

// Runs on any machine: without the backend, without a driver, without a GPU and with one.
TEST(CudaDevice, OfAGpuThatIsNotThere_IsRefusedWithTheReason) {
  try {
    static_cast<void>(make_cuda_device({.uuid = kNoSuchGpu}));
    FAIL() << "nothing was thrown";
  } catch (const NotCompiled& error) {
    EXPECT_FALSE(cuda_compiled());
    EXPECT_THAT(error.what(), testing::HasSubstr("-DSPILLWAY_CUDA=ON"));
    EXPECT_EQ(error.exit_code(), ExitCode::config);
  } catch (const CudaError& error) {
    EXPECT_TRUE(cuda_compiled());
    EXPECT_THAT(error.what(), testing::AnyOf(testing::HasSubstr(kNoSuchGpu), testing::HasSubstr("no GPU is visible"),
                                             testing::HasSubstr("driver")));
    EXPECT_EQ(error.exit_code(), ExitCode::failure);
  }
}

TEST(CudaDevice, ListOfGpus_WithoutTheBackendIsRefused) {
  if (cuda_compiled()) GTEST_SKIP() << "this build has the CUDA backend";

  EXPECT_THROW(static_cast<void>(list_cuda_gpus()), NotCompiled);
}

}  // namespace
}  // namespace spillway
