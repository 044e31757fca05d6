// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/cuda/check.hpp"
#include "kernels/beam_step.hpp"
#include "kernels/cuda/advance_beams.hpp"

namespace spillway::kernels::cuda {
namespace {

constexpr int kThreads = 128;
// Rows of a column of the ancestry, for as many threads as there is place for; a little is left to the kernel's own variables.
constexpr int kStaged = 47 * 1024 / static_cast<int>(sizeof(std::int32_t));

/// One thread block for an item. The last one through decides whether all is over.
__global__ void __launch_bounds__(kThreads) advance(const BeamStep step, int columns) {
  extern __shared__ std::int32_t staged[];
  __shared__ bool open, last;
  if (step.is_over()) return;
  const std::int64_t item = blockIdx.x, length = step.next_length();
  const int thread = static_cast<int>(threadIdx.x);
  const Share copied{.first = thread, .stride = kThreads};
  if (thread == 0) open = step.choose(item, length);
  __syncthreads();
  step.copy_finished(item, length - 2, copied);
  __syncthreads();  // the histories have been read through the ancestry
  if (thread < columns) step.reorder(item, length, {.first = thread, .stride = columns}, staged + thread, columns);
  __syncthreads();
  if (open && length >= step.max_length) {
    if (thread == 0) step.close(item, length);
    __syncthreads();
    step.copy_finished(item, length - 1, copied);
  }
  if (thread == 0) {
    __threadfence();
    const int through = atomicAdd(step.clock + 2, 1);
    last = through == static_cast<int>(gridDim.x) - 1;
    __threadfence();
  }
  __syncthreads();
  if (!last) return;
  bool mine = true;
  for (unsigned i = threadIdx.x; i < gridDim.x; i += kThreads)
    mine = mine && *const_cast<const volatile std::int32_t*>(step.done + i) != 0;
  const bool all_done = __syncthreads_and(mine ? 1 : 0) != 0;
  if (thread != 0) return;
  step.clock[2] = 0;
  step.tick(length, all_done);
  __threadfence_system();
}

}  // namespace

void advance_beams(cudaStream_t stream, const AdvanceBeams& op) {
  if (op.items == 0) return;
  const int columns = std::min(kThreads, kStaged / static_cast<int>(op.beams));
  advance<<<static_cast<unsigned>(op.items), kThreads,
            static_cast<std::size_t>(columns) * static_cast<std::size_t>(op.beams) * sizeof(std::int32_t), stream>>>(
      beam_step_of(op), columns);
  spillway::cuda::check(cudaGetLastError(), "advance_beams");
}

}  // namespace spillway::kernels::cuda
