// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace spillway::kernels::cuda {

/// Philox4x32-10 on the device: the four draws of core/philox.hpp's Philox::draw(key, {counter.x, .y, .z, .w}).
__device__ inline uint4 philox(std::uint64_t key, uint4 counter) {
  auto key0 = static_cast<std::uint32_t>(key);
  auto key1 = static_cast<std::uint32_t>(key >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    constexpr std::uint32_t kFirst = 0xD2511F53U, kSecond = 0xCD9E8D57U;
    counter = uint4{__umulhi(kSecond, counter.z) ^ counter.y ^ key0, kSecond * counter.z,
                    __umulhi(kFirst, counter.x) ^ counter.w ^ key1, kFirst * counter.x};
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  return counter;
}

}  // namespace spillway::kernels::cuda
