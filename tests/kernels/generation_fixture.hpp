// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "core/device.hpp"
#include "core/philox.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "kernels/cpu/thread_pool.hpp"
#include "kernels/generation_ops.hpp"

namespace spillway::kernels::test {

/// Standard normal numbers from a stream of their own.
inline std::vector<float> random_values(std::int64_t count, std::uint64_t stream) {
  PhiloxStream random(3, stream);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = random.normal();
  return values;
}

/// The CPU's ops of generation on three threads, and a queue of the host.
class GenerationOpsTest : public testing::Test {
 protected:
  std::shared_ptr<cpu::ThreadPool> pool_ = std::make_shared<cpu::ThreadPool>(3);
  std::unique_ptr<GenerationOps> ops_ = cpu::make_generation_ops(pool_);
  std::unique_ptr<Device> host_ = make_host_device();
  std::unique_ptr<Queue> queue_ = host_->create_compute_queue();
};

}  // namespace spillway::kernels::test
