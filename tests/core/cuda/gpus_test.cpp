// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/gpus.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.hpp"

namespace spillway::cuda {
namespace {

CudaGpu gpu(const char* uuid) {
  CudaGpu made;
  made.name = "card";
  made.uuid = uuid;
  return made;
}

const std::vector<CudaGpu> kTwo{gpu("GPU-0a"), gpu("GPU-0b")};

TEST(FindGpu, ByUuid_InAnyCaseAndWithAnyWordInFront) {
  EXPECT_EQ(find_gpu(kTwo, "GPU-0b"), 1);
  EXPECT_EQ(find_gpu(kTwo, "0B"), 1);
  EXPECT_EQ(find_gpu(kTwo, "MIG-0a"), 0);
}

TEST(FindGpu, WithoutUuid_IsTheFirst) { EXPECT_EQ(find_gpu(kTwo, ""), 0); }

TEST(FindGpu, UnknownUuid_IsRefusedWithThoseThatAreThere) {
  try {
    static_cast<void>(find_gpu(kTwo, "GPU-0c"));
    FAIL() << "nothing was thrown";
  } catch (const CudaError& error) {
    EXPECT_STREQ(error.what(), "GPU-0c is not visible to this process, which sees GPU-0a (card), GPU-0b (card)");
  }
}

TEST(FindGpu, WithoutGpus_IsRefused) { EXPECT_THROW(static_cast<void>(find_gpu({}, "")), CudaError); }

}  // namespace
}  // namespace spillway::cuda
