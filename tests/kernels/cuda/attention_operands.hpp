// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <vector>

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "core/tensor_view.hpp"
#include "kernels/float16.hpp"

namespace spillway::kernels::cuda::test {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

inline void expect_success(cudaError_t result) { ASSERT_EQ(result, cudaSuccess) << cudaGetErrorString(result); }

/// A stored element as a float, and a float as what T stores.
inline float number(float value) { return value; }
inline float number(BFloat16 value) { return float_from_bf16(value.bits); }
inline float number(Float16 value) { return float_from_f16(value.bits); }

template <typename T>
T stored(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else if constexpr (std::is_same_v<T, Float16>) {
    return {f16_from_float(value)};
  } else {
    return {bf16_from_float(value)};
  }
}

/// Where the tensors of an op are: the vectors themselves, or copies on the device that are written back by `fetch`.
class Place {
 public:
  explicit Place(bool device) : device_(device) {}
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() {
    for (const Copy& copy : copies_) cudaFree(copy.device);
  }

  template <typename T>
  std::byte* of(std::vector<T>& values) {
    auto* const host = reinterpret_cast<std::byte*>(values.data());
    if (!device_) return host;
    Copy copy{.host = host, .device = nullptr, .bytes = values.size() * sizeof(T)};
    expect_success(cudaMalloc(&copy.device, copy.bytes));
    expect_success(cudaMemcpy(copy.device, host, copy.bytes, cudaMemcpyHostToDevice));
    copies_.push_back(copy);
    return static_cast<std::byte*>(copy.device);
  }
  void fetch() {
    for (const Copy& copy : copies_)
      expect_success(cudaMemcpy(copy.host, copy.device, copy.bytes, cudaMemcpyDeviceToHost));
  }

 private:
  struct Copy {
    std::byte* host;
    void* device;
    std::size_t bytes;
  };
  bool device_;
  std::vector<Copy> copies_;
};

/// A matrix of `stride` columns whose columns from `column` on are an operand. What is beside them is NaN.
template <typename T>
struct Columns {
  Columns(const std::vector<double>& dense, std::int64_t columns, std::int64_t row_stride, std::int64_t first)
      : width(columns), stride(row_stride), column(first) {
    memory.assign(dense.size() / static_cast<std::size_t>(width) * static_cast<std::size_t>(stride), stored<T>(kNan));
    for (std::size_t i = 0; i < dense.size(); ++i) memory[at(i)] = stored<T>(static_cast<float>(dense[i]));
  }
  [[nodiscard]] std::size_t at(std::size_t i) const {
    const auto row = static_cast<std::int64_t>(i) / width;
    return static_cast<std::size_t>(row * stride + column + static_cast<std::int64_t>(i) % width);
  }
  [[nodiscard]] TensorView view(Place& place) {
    return {place.of(memory) + static_cast<std::size_t>(column) * sizeof(T),
            dtype_of<T>,
            {static_cast<std::int64_t>(memory.size()) - column}};
  }
  /// The operand; what is beside it must be as it was.
  [[nodiscard]] std::vector<float> dense() const {
    std::vector<float> values;
    std::vector<T> rest = memory;
    for (std::size_t i = 0; i < memory.size() / static_cast<std::size_t>(stride) * static_cast<std::size_t>(width);
         ++i) {
      values.push_back(number(memory[at(i)]));
      rest[at(i)] = stored<T>(kNan);
    }
    for (const T value : rest) EXPECT_TRUE(std::isnan(number(value))) << "beside the columns";
    return values;
  }

  std::vector<T> memory;
  std::int64_t width, stride, column;
};

}  // namespace spillway::kernels::cuda::test
