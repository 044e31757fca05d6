// SPDX-License-Identifier: Apache-2.0
#include "train/measure_gpu.hpp"

#include <gtest/gtest.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

TEST(MeasureGpu, FindsRatesThatBelongTogether) {
  std::vector<CudaGpu> gpus;
  try {
    gpus = list_cuda_gpus();
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  if (gpus.empty()) GTEST_SKIP() << "no GPU is visible";
  const auto device = make_cuda_device({.uuid = gpus.front().uuid});
  const std::size_t free = device->free_bytes();

  const GpuMeasures measures = measure_gpu(*device, gpus.front());

  const plan::GpuProfile& gpu = measures.gpu;
  EXPECT_EQ(gpu.name, device->name());
  // Other processes may take and give back some meanwhile.
  constexpr double kOthers = 4e9;
  EXPECT_NEAR(static_cast<double>(gpu.memory_bytes - gpu.driver_bytes - gpu.context_bytes), static_cast<double>(free),
              kOthers);
  EXPECT_GT(gpu.fp16_flops, gpu.fp32_flops);
  EXPECT_GT(gpu.fp32_flops, 1e12);
  EXPECT_GT(gpu.product_share, 0.2);
  EXPECT_LE(gpu.product_share, 1.0);
  EXPECT_GT(gpu.memory_rate, 5e10);
  EXPECT_NEAR(gpu.adamw_rate * plan::kAdamWBytes / gpu.memory_rate, 0.9, 0.35);
  EXPECT_GT(measures.pcie.up_rate, 1e9);
  EXPECT_GT(measures.pcie.down_rate, 1e9);
  EXPECT_GT(measures.pcie.both_rate, 0.9 * std::min(measures.pcie.up_rate, measures.pcie.down_rate));
}

}  // namespace
}  // namespace spillway::train
