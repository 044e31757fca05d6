// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/octet.cuh"

namespace spillway::kernels::cuda {

/// kWarps warps of a block of kTeams teams that work on one row together. A lane has octets `lane`, `lane` + kLanes and so on of the row.
template <int kWarps, int kTeams>
class RowTeam {
 public:
  static constexpr int kLanes = 32 * kWarps;
  static constexpr int kBlock = kLanes * kTeams;  // threads

  __device__ RowTeam() : index(static_cast<int>(threadIdx.x) / kLanes), lane(static_cast<int>(threadIdx.x) % kLanes) {}

  /// The sum over the team, for all of it, in an order that depends on nothing but kWarps. All of the team call it.
  __device__ float sum(float value) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xFFFFFFFFU, value, step);
    if constexpr (kWarps > 1) {
      // Two places take turns: who writes to one again has met at the other all who read it before.
      __shared__ float of_warps[2][kTeams][kWarps];
      float* places = of_warps[turn_][index];
      turn_ ^= 1;
      if (lane % 32 == 0) places[lane / 32] = value;
      wait();
      value = places[0];
#pragma unroll
      for (int warp = 1; warp < kWarps; ++warp) value += places[warp];
    }
    return value;
  }

  int index;  // of the team in its block
  int lane;   // of the thread in its team

 private:
  /// Each team has a barrier of its own. That its number is a constant keeps the block from reserving all sixteen, which would leave few
  /// for other blocks of the multiprocessor.
  template <int kTeam = 0>
  __device__ void wait() const {
    if constexpr (kTeams == 1) {
      __syncthreads();
    } else if (index == kTeam) {
      asm volatile("bar.sync %0, %1;" ::"n"(kTeam + 1), "n"(kLanes) : "memory");
    } else if constexpr (kTeam + 1 < kTeams) {
      wait<kTeam + 1>();
    }
  }

  int turn_ = 0;
};

/// How a norm's kernels are made for a row of some width.
template <int kWarpsOfRow, int kOctetsOfLane>
struct NormShape {
  static constexpr int kWarps = kWarpsOfRow;
  static constexpr int kHeld = kOctetsOfLane;             // octets of a row that a lane holds
  static constexpr int kUnroll = kHeld <= 2 ? kHeld : 1;  // beyond, they are not in registers
  static constexpr std::int64_t kWidest = std::int64_t{32} * kWarps * kHeld * kOctet;
};

/// Calls task(NormShape()) on the host with the narrowest that holds a row: up to 2048 columns a warp for each 256.
template <typename Task>
void visit_norm_shape(std::int64_t width, const Task& task) {
  if (width <= NormShape<1, 1>::kWidest) return task(NormShape<1, 1>());
  if (width <= NormShape<2, 1>::kWidest) return task(NormShape<2, 1>());
  if (width <= NormShape<4, 1>::kWidest) return task(NormShape<4, 1>());
  if (width <= NormShape<8, 1>::kWidest) return task(NormShape<8, 1>());
  if (width <= NormShape<8, 2>::kWidest) return task(NormShape<8, 2>());
  if (width <= NormShape<8, 32>::kWidest) return task(NormShape<8, 32>());
  throw Error("a norm on a GPU is of at most 65536 columns");
}

}  // namespace spillway::kernels::cuda
