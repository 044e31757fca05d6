// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include <gtest/gtest.h>

#include "core/cuda_device.hpp"
#include "support/scratch_directory.hpp"
#include "train/trainee.hpp"

namespace spillway::test {

/// A GPU and a folder to train in; skips where there is no GPU.
class GpuTest : public testing::Test {
 protected:
  void SetUp() override {
    try {
      gpu_ = make_cuda_device({});
    } catch (const std::exception& error) {  // no CUDA in this build, no driver, or no GPU
      GTEST_SKIP() << error.what();
    }
    write_training_folder(folder_.path());
  }

  ScratchDirectory folder_;
  std::unique_ptr<Device> gpu_;
};

}  // namespace spillway::test
