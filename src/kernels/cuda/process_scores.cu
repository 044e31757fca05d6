// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/check.hpp"
#include "kernels/cuda/process_scores.hpp"

namespace spillway::kernels::cuda {
namespace {

constexpr int kThreads = 256;

struct Rows {
  const std::int32_t *position, *tokens, *ancestry;
  float* scores;
  std::int64_t vocabulary, capacity;
  int ngram;
  float penalty;
  std::int64_t min_length;
  std::int32_t end_token;
};

__device__ bool seen_before(const std::int32_t* seen, int j) {
  for (int i = 0; i < j; ++i)
    if (seen[i] == seen[j]) return true;
  return false;
}

/// Whether the n-gram from `begin` starts with the row's last n - 1 tokens.
__device__ bool continues(const std::int32_t* seen, int length, int ngram, int begin) {
  for (int i = 0; i < ngram - 1; ++i)
    if (seen[begin + i] != seen[length - ngram + 1 + i]) return false;
  return true;
}

/// One thread block for a row, a thread for a token that was seen.
__global__ void __launch_bounds__(kThreads) process(const Rows rows) {
  extern __shared__ std::int32_t seen[];
  const std::int64_t row = blockIdx.x;
  float* const scores = rows.scores + row * rows.vocabulary;
  const int thread = static_cast<int>(threadIdx.x), length = *rows.position + 1;
  for (int j = thread; j < length; j += kThreads)
    seen[j] = rows.tokens[rows.ancestry[row * rows.capacity + j] * rows.capacity + j];
  __syncthreads();
  if (rows.penalty != 1.0F)
    for (int j = thread; j < length; j += kThreads) {
      if (seen_before(seen, j)) continue;
      const float score = scores[seen[j]];
      scores[seen[j]] = score < 0.0F ? __fmul_rn(score, rows.penalty) : __fdiv_rn(score, rows.penalty);
    }
  __syncthreads();
  if (rows.ngram > 0)
    for (int begin = thread; begin + rows.ngram <= length; begin += kThreads)
      if (continues(seen, length, rows.ngram, begin)) scores[seen[begin + rows.ngram - 1]] = -INFINITY;
  if (length < rows.min_length && thread == 0) scores[rows.end_token] = -INFINITY;
}

}  // namespace

void process_scores(cudaStream_t stream, const ProcessScores& op) {
  if (op.rows == 0) return;
  const Rows rows{.position = reinterpret_cast<const std::int32_t*>(op.position.data()),
                  .tokens = reinterpret_cast<const std::int32_t*>(op.tokens.data()),
                  .ancestry = reinterpret_cast<const std::int32_t*>(op.ancestry.data()),
                  .scores = reinterpret_cast<float*>(op.scores.data()),
                  .vocabulary = op.scores.extent(1),
                  .capacity = op.capacity,
                  .ngram = op.no_repeat_ngram_size > op.capacity ? 0 : static_cast<int>(op.no_repeat_ngram_size),
                  .penalty = op.repetition_penalty,
                  .min_length = op.min_length,
                  .end_token = op.end_token};
  process<<<static_cast<unsigned>(op.rows), kThreads, static_cast<std::size_t>(op.capacity) * sizeof(std::int32_t),
            stream>>>(rows);
  spillway::cuda::check(cudaGetLastError(), "process_scores");
}

}  // namespace spillway::kernels::cuda
