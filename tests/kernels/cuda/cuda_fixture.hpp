// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "core/philox.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "kernels/kernel_fixtures.hpp"

namespace spillway::kernels::cuda::test {

inline void require(cudaError_t result) {
  if (result != cudaSuccess) throw std::runtime_error(cudaGetErrorString(result));
}

/// Device memory of a test, any bytes in it.
class DeviceMemory {
 public:
  explicit DeviceMemory(std::size_t bytes) : bytes_(bytes) {
    void* memory = nullptr;
    require(cudaMalloc(&memory, bytes + 1));
    memory_.reset(static_cast<std::byte*>(memory));
  }
  [[nodiscard]] std::byte* data() const { return memory_.get(); }
  [[nodiscard]] std::span<std::byte> span() const { return {memory_.get(), bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { cudaFree(memory); }
  };
  std::size_t bytes_;
  std::unique_ptr<std::byte, Free> memory_;
};

/// The same tensor twice: in host memory for the CPU's op, in device memory for ours. The CPU has no f16: there the host's tensor is f32,
/// of the same numbers to begin with.
class Twin {
 public:
  Twin(DType dtype, Shape shape, std::vector<std::byte> bytes)
      : dtype_(dtype), shape_(shape), first_(std::move(bytes)), device_(first_.size()) {
    reset();
  }
  static Twin of(DType dtype, Shape shape, const std::vector<float>& values) {
    std::vector<std::byte> bytes(values.size() * size_of(dtype));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::uint16_t half = dtype == DType::f16 ? f16_from_float(values[i]) : bf16_from_float(values[i]);
      if (dtype == DType::f32) std::memcpy(bytes.data() + 4 * i, &values[i], 4);
      else std::memcpy(bytes.data() + 2 * i, &half, 2);
    }
    return {dtype, shape, bytes};
  }
  /// Standard normal numbers times `scale`.
  static Twin random(DType dtype, Shape shape, std::uint64_t stream, float scale = 1.0F) {
    std::vector<float> values(static_cast<std::size_t>(shape.elements()));
    PhiloxStream draws(7, stream);
    for (float& value : values) value = scale * draws.normal();
    return of(dtype, shape, values);
  }
  /// NaN everywhere: for what an op must overwrite.
  static Twin poison(DType dtype, Shape shape) {
    return of(dtype, shape,
              std::vector<float>(static_cast<std::size_t>(shape.elements()), std::numeric_limits<float>::quiet_NaN()));
  }
  /// Ones in every bit, likewise.
  static Twin poisoned_bytes(Shape shape) {
    return {DType::u8, shape, std::vector<std::byte>(static_cast<std::size_t>(shape.elements()), std::byte{0xFF})};
  }
  static Twin integers(const std::vector<std::int32_t>& values) {
    std::vector<std::byte> bytes(4 * values.size());
    if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
    return {DType::i32, {static_cast<std::int64_t>(values.size())}, bytes};
  }

  [[nodiscard]] TensorView host() { return {host_.data(), host_dtype(), shape_}; }
  [[nodiscard]] TensorView device() { return {device_.data(), dtype_, shape_}; }
  /// Both as they were made.
  void reset() {
    host_ = first_;
    if (dtype_ == DType::f16) {
      const std::vector<double> values = widened(first_, DType::f16);
      host_.resize(4 * values.size());
      for (std::size_t i = 0; i < values.size(); ++i) {
        const auto value = static_cast<float>(values[i]);
        std::memcpy(host_.data() + 4 * i, &value, 4);
      }
    }
    require(cudaMemcpy(device_.data(), first_.data(), first_.size(), cudaMemcpyHostToDevice));
    require(
        cudaDeviceSynchronize());  // a copy from pageable memory may still be under way, and our stream does not wait for it
  }
  /// What the device has now.
  [[nodiscard]] std::vector<std::byte> device_bytes() const {
    std::vector<std::byte> bytes(first_.size());
    require(cudaMemcpy(bytes.data(), device_.data(), bytes.size(), cudaMemcpyDeviceToHost));
    return bytes;
  }
  [[nodiscard]] std::vector<double> found() const { return widened(device_bytes(), dtype_); }
  [[nodiscard]] std::vector<double> expected() const { return widened(host_, host_dtype()); }
  [[nodiscard]] DType dtype() const { return dtype_; }
  /// What the host has now, rounded to what the device stores.
  [[nodiscard]] std::vector<std::byte> host_bytes() const {
    if (dtype_ != DType::f16) return host_;
    std::vector<std::byte> bytes(host_.size() / 2);
    for (std::size_t i = 0; 2 * i < bytes.size(); ++i) {
      float value = 0.0F;
      std::memcpy(&value, host_.data() + 4 * i, 4);
      const std::uint16_t half = f16_from_float(value);
      std::memcpy(bytes.data() + 2 * i, &half, 2);
    }
    return bytes;
  }

 private:
  [[nodiscard]] DType host_dtype() const { return dtype_ == DType::f16 ? DType::f32 : dtype_; }
  [[nodiscard]] static std::vector<double> widened(const std::vector<std::byte>& bytes, DType dtype) {
    std::vector<double> values(bytes.size() / size_of(dtype));
    for (std::size_t i = 0; i < values.size(); ++i) {
      float value = 0.0F;
      std::uint16_t half = 0;
      if (dtype == DType::f32) {
        std::memcpy(&value, bytes.data() + 4 * i, 4);
      } else if (dtype == DType::bf16 || dtype == DType::f16) {
        std::memcpy(&half, bytes.data() + 2 * i, 2);
        value = dtype == DType::f16 ? float_from_f16(half) : float_from_bf16(half);
      }
      values[i] = static_cast<double>(value);
    }
    return values;
  }

  DType dtype_;
  Shape shape_;
  std::vector<std::byte> first_, host_;
  DeviceMemory device_;
};

/// The same batch twice.
class TwinBatch {
 public:
  explicit TwinBatch(std::int64_t rows)
      : batch_(rows),
        offsets_(Twin::integers(batch_.offsets)),
        samples_(Twin::integers(batch_.samples)),
        positions_(Twin::integers(batch_.positions)) {}
  [[nodiscard]] PackedSequences host() { return batch_.sequences; }
  [[nodiscard]] PackedSequences device() {
    PackedSequences sequences = batch_.sequences;
    sequences.offsets = offsets_.device();
    sequences.row_sample = samples_.device();
    sequences.row_position = positions_.device();
    return sequences;
  }

 private:
  kernels::test::Batch batch_;
  Twin offsets_, samples_, positions_;
};

/// An op is made by a lambda that is given one of these: [&](auto on) { return Op{.x = on(x), ...}; }
struct OnHost {
  auto operator()(auto& twin) const { return twin.host(); }
};
struct OnDevice {
  auto operator()(auto& twin) const { return twin.device(); }
};

/// |found - expected|: of the whole tensor relative to |expected|, and of an element relative to the largest expected.
struct Tolerance {
  double whole, element;
};

/// For what has a few roundings in fp32 in another order: in bf16 a result may then fall to the other side, one place off. In f16 it is
/// compared with what the CPU does not round: half a place, for what has been stored before too.
inline Tolerance tolerance_of(DType dtype) {
  if (dtype == DType::f16) return {.whole = 1e-3, .element = 1.0 / 512};
  return dtype == DType::f32 ? Tolerance{.whole = 2e-6, .element = 1e-5}
                             : Tolerance{.whole = 1e-3, .element = 1.0 / 128};
}

inline void expect_close(const Twin& twin, const Tolerance& tolerance, const std::string& what) {
  const std::vector<double> found = twin.found(), expected = twin.expected();
  double difference = 0.0, size = 0.0, most = 0.0, largest = 0.0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_FALSE(std::isnan(found[i])) << what << ", element " << i << ", expected " << expected[i];
    difference += std::pow(found[i] - expected[i], 2);
    size += expected[i] * expected[i];
    most = std::max(most, std::abs(found[i] - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  EXPECT_LE(std::sqrt(difference), tolerance.whole * std::sqrt(size) + 1e-30) << what;
  EXPECT_LE(most, tolerance.element * largest + 1e-30) << what;
}

inline void expect_close(const Twin& twin, const std::string& what) {
  expect_close(twin, tolerance_of(twin.dtype()), what);
}

inline void expect_same_bits(const Twin& twin, const std::string& what) {
  EXPECT_EQ(twin.device_bytes(), twin.host_bytes()) << what;
}

/// Skips without a GPU; otherwise has a stream, and the CPU's ops to compare with.
class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    int gpus = 0;
    const cudaError_t result = cudaGetDeviceCount(&gpus);
    if (result != cudaSuccess || gpus == 0) {
      cudaGetLastError();
      GTEST_SKIP() << "no GPU: " << (result != cudaSuccess ? cudaGetErrorString(result) : "there is none");
    }
    require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  }
  void TearDown() override {
    if (stream != nullptr) cudaStreamDestroy(stream);
  }
  void synchronize() const { require(cudaStreamSynchronize(stream)); }

  /// Runs the CPU's op once and ours twice from the same state; what `outputs` are is then for the caller to compare.
  template <typename Reference, typename Launch>
  void run_both(const Reference& reference, const Launch& launch, std::initializer_list<Twin*> outputs) {
    launch();
    synchronize();
    std::vector<std::vector<std::byte>> first;
    for (const Twin* output : outputs) first.push_back(output->device_bytes());
    for (Twin* output : outputs) output->reset();
    launch();
    synchronize();
    std::size_t i = 0;
    for (const Twin* output : outputs) EXPECT_EQ(output->device_bytes(), first[i++]) << "another run, other bits";
    reference();
  }

  cudaStream_t stream = nullptr;
  std::unique_ptr<ModelOps> cpu_ops = cpu::make_model_ops(cpu::make_thread_pool(2));
  std::unique_ptr<Device> host_device = make_host_device();
  std::unique_ptr<Queue> host_queue = host_device->create_compute_queue();
};

}  // namespace spillway::kernels::cuda::test
