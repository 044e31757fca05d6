// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "core/cuda/check.hpp"
#include "core/tensor_view.hpp"
#include "kernels/cuda/state_codes.hpp"

namespace spillway::kernels::test {

/// Launchers on a stream of their own. Host tensors are copied to the GPU, and back by collect(), with their bits.
class GpuTest : public testing::Test {
 protected:
  void SetUp() override {
    int gpus = 0;
    if (cudaGetDeviceCount(&gpus) != cudaSuccess || gpus == 0) GTEST_SKIP() << "no GPU here";
    spillway::cuda::check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  }
  void TearDown() override {
    if (stream_ != nullptr) spillway::cuda::check(cudaStreamDestroy(stream_), "cudaStreamDestroy");
  }

  /// Device memory until the test's end.
  std::byte* allocate(std::size_t bytes) {
    void* memory = nullptr;
    spillway::cuda::check(cudaMalloc(&memory, bytes + 1), "cudaMalloc");
    memory_.emplace_back(static_cast<std::byte*>(memory));
    return memory_.back().get();
  }
  /// A copy on the GPU, which collect() copies back.
  TensorView on_gpu(const TensorView& host) {
    if (!host) return {};
    const TensorView gpu{copied(host), host.dtype(), host.shape()};
    outputs_.push_back({host.data(), gpu.data(), host.bytes()});
    return gpu;
  }
  ConstTensorView on_gpu(const ConstTensorView& host) { return {copied(host), host.dtype(), host.shape()}; }
  void collect() {
    for (const Output& output : outputs_)
      spillway::cuda::check(cudaMemcpyAsync(output.host, output.gpu, output.bytes, cudaMemcpyDeviceToHost, stream_),
                            "cudaMemcpyAsync");
    spillway::cuda::check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    outputs_.clear();
  }
  const cuda::StateCodeTables* codes() {
    return cuda::upload_state_codes(stream_, allocate(sizeof(cuda::StateCodeTables)));
  }

  cudaStream_t stream_ = nullptr;

 private:
  struct Output {
    std::byte* host;
    const std::byte* gpu;
    std::size_t bytes;
  };
  struct Free {
    void operator()(std::byte* memory) const { static_cast<void>(cudaFree(memory)); }
  };
  std::byte* copied(const ConstTensorView& host) {
    if (!host) return nullptr;
    std::byte* const gpu = allocate(host.bytes());
    spillway::cuda::check(cudaMemcpyAsync(gpu, host.data(), host.bytes(), cudaMemcpyHostToDevice, stream_),
                          "cudaMemcpyAsync");
    spillway::cuda::check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    return gpu;
  }

  std::vector<std::unique_ptr<std::byte, Free>> memory_;
  std::vector<Output> outputs_;
};

}  // namespace spillway::kernels::test
