// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/cuda/attention_tile.cuh"

namespace spillway::kernels::cuda {

inline constexpr float kLog2OfE = 1.44269504088896340736F;
inline constexpr float kLogOf2 = 0.69314718055994530942F;

/// 2^x, an approximation of 2 units in the last place.
__device__ inline float power_of_2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

/// The logarithm of base 2, off by at most 2^-22, of itself where it is above 1.
__device__ inline float log_base_2(float x) {
  float result;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

/// A function of distance that a tile of scores needs, in shared memory: `Count` values at index 0, 1, ... They are there twice, so that
/// two neighbours lie on 8 bytes whatever the first one's index; the two copies begin 16 banks apart.
template <int Count>
struct alignas(16) DistanceWindow {
  static constexpr int kPitch = (Count + 31) / 32 * 32 + 16;
  float even[kPitch], odd[kPitch];

  /// Where values `index`, `index` + 1 are; those of index + 8 n are 8 n elements on.
  __device__ const float* pairs(int index) const { return index % 2 == 0 ? even + index : odd + index - 1; }
  __device__ void set(int index, float value) {
    even[index] = value;
    if (index > 0) odd[index - 1] = value;
  }
};

__device__ inline float2 pair_at(const float* pairs, int n) { return *reinterpret_cast<const float2*>(pairs + 8 * n); }

/// Sums a warp's gradients of scores along diagonals. It has 16 rows and is given 32 columns after the other; rows are keys and columns
/// queries, or the other way round. Diagonal z has the elements of column - row = z - 16.
class DiagonalSums {
 public:
  static constexpr int kPitch = 40;
  using Exchange = float[8][kPitch];

  /// \param exchange   of the warp
  /// \param diagonals  of the warp, one for each column and 16 more: diagonal z at z
  __device__ DiagonalSums(Exchange& exchange, float* diagonals) : exchange_(exchange), diagonals_(diagonals) {}

  /// Of the next 32 columns. Each diagonal's elements are added in the same order whatever the GPU does.
  __device__ void add(const float (&d_scores)[4][4]) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int g = lane / 4;
    __syncwarp();
    // A thread's elements (n, rows g) and (n + 1, rows g + 8) are on one diagonal.
#pragma unroll
    for (int m = 0; m < 5; ++m) {
      float2 sum = m > 0 ? float2{d_scores[m - 1][0], d_scores[m - 1][1]} : float2{0.0F, 0.0F};
      if (m < 4) {
        sum.x += d_scores[m][2];
        sum.y += d_scores[m][3];
      }
      *reinterpret_cast<float2*>(&exchange_[g][8 * m + lane % 4 * 2]) = sum;
    }
    __syncwarp();
    // Element u of row g is on diagonal u + 8 - g of these columns, of which a lane sums two.
    float first = carry_;
    carry_ = 0.0F;
#pragma unroll
    for (int row = 0; row < 8; ++row) {
      const int u = lane - 8 + row;
      if (u >= 0) first += exchange_[row][u];
      if (u + 32 < kPitch) carry_ += exchange_[row][u + 32];
    }
    diagonals_[count_ + lane] = first;
    count_ += 32;
  }
  /// After the last columns.
  __device__ void finish() {
    const int lane = static_cast<int>(threadIdx.x % 32);
    if (lane < 16) diagonals_[count_ + lane] = carry_;
  }

 private:
  Exchange& exchange_;
  float* diagonals_;
  float carry_ = 0.0F;
  int count_ = 0;
};

}  // namespace spillway::kernels::cuda
