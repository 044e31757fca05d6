// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace spillway::kernels::cuda {

/// The keys of the ten rounds of Philox4x32-10. As an argument of a kernel they cost it no instruction.
struct PhiloxKeys {
  static constexpr int kRounds = 10;

  __host__ __device__ explicit PhiloxKeys(std::uint64_t key) {
    auto first = static_cast<std::uint32_t>(key);
    auto second = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < kRounds; ++round) {
      of_round[round][0] = first;
      of_round[round][1] = second;
      first += 0x9E3779B9U;
      second += 0xBB67AE85U;
    }
  }
  std::uint32_t of_round[kRounds][2];
};

/// Philox4x32-10 on the device: the four draws of core/philox.hpp's Philox::draw(key, {counter.x, .y, .z, .w}).
__device__ inline uint4 philox(const PhiloxKeys& keys, uint4 counter) {
#pragma unroll
  for (int round = 0; round < PhiloxKeys::kRounds; ++round) {
    constexpr std::uint32_t kFirst = 0xD2511F53U, kSecond = 0xCD9E8D57U;
    const std::uint64_t first = std::uint64_t{kFirst} * counter.x, second = std::uint64_t{kSecond} * counter.z;
    counter = uint4{static_cast<std::uint32_t>(second >> 32) ^ counter.y ^ keys.of_round[round][0],
                    static_cast<std::uint32_t>(second),
                    static_cast<std::uint32_t>(first >> 32) ^ counter.w ^ keys.of_round[round][1],
                    static_cast<std::uint32_t>(first)};
  }
  return counter;
}
__device__ inline uint4 philox(std::uint64_t key, uint4 counter) { return philox(PhiloxKeys(key), counter); }

}  // namespace spillway::kernels::cuda
