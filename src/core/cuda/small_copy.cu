// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "core/cuda/small_copy.hpp"

namespace spillway::cuda {
namespace {

constexpr unsigned kThreads = 256, kMostBlocks = 64;
constexpr std::size_t kWord = sizeof(uint4);

__global__ void __launch_bounds__(kThreads) move_words(uint4* to, const uint4* from, std::size_t count) {
  const std::size_t all = std::size_t{gridDim.x} * kThreads;
  for (std::size_t i = std::size_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += all) to[i] = from[i];
}

__global__ void __launch_bounds__(kThreads) move_bytes(std::byte* to, const std::byte* from, std::size_t count) {
  const std::size_t all = std::size_t{gridDim.x} * kThreads;
  for (std::size_t i = std::size_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += all) to[i] = from[i];
}

unsigned blocks_for(std::size_t count) {
  const std::size_t needed = (count + kThreads - 1) / kThreads;
  return needed < kMostBlocks ? static_cast<unsigned>(needed) : kMostBlocks;
}

bool starts_word(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory) % kWord == 0; }

}  // namespace

cudaError_t copy_by_kernel(cudaStream_t stream, std::byte* to, const std::byte* from, std::size_t bytes) {
  const std::size_t words = starts_word(to) && starts_word(from) ? bytes / kWord : 0;
  if (words > 0) {
    move_words<<<blocks_for(words), kThreads, 0, stream>>>(reinterpret_cast<uint4*>(to),
                                                           reinterpret_cast<const uint4*>(from), words);
    if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
  }
  const std::size_t done = words * kWord;
  if (done == bytes) return cudaSuccess;
  move_bytes<<<blocks_for(bytes - done), kThreads, 0, stream>>>(to + done, from + done, bytes - done);
  return cudaGetLastError();
}

}  // namespace spillway::cuda
