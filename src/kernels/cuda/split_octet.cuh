// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/raw_octet.cuh"

namespace spillway::kernels::cuda {

// An octet of a lane in two halves: of the 256 columns of a warp, lane l has columns 4 l to 4 l + 3 and 128 + 4 l to 128 + 4 l + 3. In f32
// a lane reads and writes 16 of an octet's 32 bytes at a time; were they neighbours, each access of the warp would touch half of every
// sector, and the second one the other half. So each is of 512 bytes on end.

inline constexpr int kHalf = kOctet / 2;
inline constexpr int kSplitColumns = 32 * kOctet;      // of a warp
inline constexpr int kHalfStride = kSplitColumns / 2;  // from a lane's first half to its second

/// Where a lane's split octets are in a row that a team of a NormShape works on: warp w has the columns of i · kWarps + w times 256 on.
template <typename NormShape>
struct SplitPlace {
  __device__ SplitPlace(int lane_of_team, int width)
      : warp_(lane_of_team / 32), lane_(lane_of_team % 32), width_(width) {}
  /// The octet of the row that the warp's columns begin with.
  [[nodiscard]] __device__ int octet(int i) const { return (i * NormShape::kWarps + warp_) * 32; }
  /// Of the lane's first half.
  [[nodiscard]] __device__ int column(int i) const { return octet(i) * kOctet + lane_ * kHalf; }
  /// Elements from there to the end of the row: below 1 if the lane has none.
  [[nodiscard]] __device__ int left(int i) const { return width_ - column(i); }

 private:
  int warp_, lane_, width_;
};

template <typename T>
using HalfWords = std::conditional_t<sizeof(T) == 4, uint4, uint2>;

/// \param from  where the lane's first half begins
/// \param left  elements from there to the end of the row, below 1 if it lies behind it; what is not there is 0
template <bool kWhole, typename T>
__device__ inline RawOctet<T> load_split(const T* from, int left) {
  RawOctet<T> raw{};
  if constexpr (kWhole) {
    HalfWords<T> halves[2] = {};
#pragma unroll
    for (int h = 0; h < 2; ++h)
      if (left > h * kHalfStride) halves[h] = *reinterpret_cast<const HalfWords<T>*>(from + h * kHalfStride);
    memcpy(&raw, halves, sizeof(raw));
  } else {
    T values[kOctet] = {};
#pragma unroll
    for (int i = 0; i < kOctet; ++i) {
      const int at = i / kHalf * kHalfStride + i % kHalf;
      if (at < left) values[i] = from[at];
    }
    memcpy(&raw, values, sizeof(raw));
  }
  return raw;
}

template <bool kWhole, typename T>
__device__ inline void store_split(T* to, const RawOctet<T>& raw, int left) {
  if constexpr (kWhole) {
    HalfWords<T> halves[2];
    memcpy(halves, &raw, sizeof(raw));
#pragma unroll
    for (int h = 0; h < 2; ++h)
      if (left > h * kHalfStride) *reinterpret_cast<HalfWords<T>*>(to + h * kHalfStride) = halves[h];
  } else {
    T values[kOctet];
    memcpy(values, &raw, sizeof(raw));
#pragma unroll
    for (int i = 0; i < kOctet; ++i) {
      const int at = i / kHalf * kHalfStride + i % kHalf;
      if (at < left) to[at] = values[i];
    }
  }
}

}  // namespace spillway::kernels::cuda
