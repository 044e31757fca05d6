// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/cuda/check.hpp"
#include "kernels/cuda/logit_parts.cuh"
#include "kernels/cuda/normaliser.cuh"
#include "kernels/cuda/top_continuations.hpp"

namespace spillway::kernels::cuda {
namespace {

constexpr int kRowThreads = 1024, kItemThreads = 256;
constexpr std::int64_t kNowhere = INT64_MAX;
constexpr unsigned kMostHigh = 65535;  // blocks in y

/// A score and its place. Of equal scores the one at the smaller place is better; nothing is worse than everything.
struct Found {
  float score = -INFINITY;
  std::int64_t place = kNowhere;

  [[nodiscard]] __device__ bool better_than(const Found& other) const {
    return score > other.score || (score == other.score && place < other.place);
  }
  static __device__ Found shuffled(const Found& found, int step) {
    return {
        __shfl_xor_sync(0xFFFFFFFFU, found.score, step),
        static_cast<std::int64_t>(__shfl_xor_sync(0xFFFFFFFFU, static_cast<unsigned long long>(found.place), step))};
  }
};

/// The `count` best of score(0) ... score(size - 1), best first, by all threads of a block: each keeps the best of its own places, and
/// only the one whose was taken looks for its next.
/// \param emit  called by one thread with (number, Found)
template <int kThreads, typename Score, typename Emit>
__device__ void select(std::int64_t size, std::int64_t count, const Score& score, const Emit& emit) {
  const auto best_after = [&](const Found& taken) {
    Found best;
    for (std::int64_t place = threadIdx.x; place < size; place += kThreads) {
      const Found found{score(place), place};
      if (taken.better_than(found) && found.better_than(best)) best = found;
    }
    return best;
  };
  Found mine = best_after({INFINITY, -1});
  for (std::int64_t c = 0; c < count; ++c) {
    const Found best =
        combine_block<kThreads>(mine, [](const Found& a, const Found& b) { return b.better_than(a) ? b : a; });
    if (best.place % kThreads != threadIdx.x) continue;
    emit(c, best);
    mine = best_after(best);
  }
}

__global__ void __launch_bounds__(kRowThreads)
    search_rows(const float* logits, const float* row_scores, std::int64_t vocabulary, std::int64_t per_row,
                bool normalised, Candidate* candidates, NoDistribution* failure) {
  const std::int64_t row = blockIdx.x;
  const float* const its = logits + row * vocabulary;
  const float row_score = row_scores[row];
  const Normaliser normaliser = normalised ? Normaliser{} : normaliser_of<kRowThreads>(its, vocabulary, row, failure);
  Candidate* const best = candidates + row * per_row;
  select<kRowThreads>(
      vocabulary, per_row,
      [&](std::int64_t token) {
        const float score = row_score + normaliser.apply(its[token]);
        return isnan(score) ? -INFINITY : score;
      },
      [&](std::int64_t c, const Found& found) {
        best[c] = {found.score, static_cast<std::int32_t>(found.place)};
      });
}

struct Outputs {
  float* scores;
  std::int32_t *rows, *tokens;
};

/// The candidates of an item's rows lie in the order of (row, part, score, token): of equal scores the one in front is better, and
/// one of NaN is none.
__global__ void __launch_bounds__(kItemThreads)
    merge_rows(const Candidate* candidates, std::int64_t beams, std::int64_t of_row, std::int64_t count, Outputs out) {
  const std::int64_t item = blockIdx.x, size = beams * of_row;
  const Candidate* const its = candidates + item * size;
  select<kItemThreads>(
      size, count, [&](std::int64_t place) { return its[place].score; },
      [&](std::int64_t c, const Found& found) {
        const std::int64_t to = item * count + c;
        out.scores[to] = found.score;
        out.rows[to] = static_cast<std::int32_t>(item * beams + found.place / of_row);
        out.tokens[to] = its[found.place].token;
      });
}

/// As merge_rows, a thread for each candidate of an item that has at most kItemThreads: its number is that of the better ones.
__global__ void __launch_bounds__(kItemThreads)
    rank_rows(const Candidate* candidates, std::int32_t beams, std::int32_t of_row, std::int32_t count, Outputs out) {
  __shared__ float scores[kItemThreads];
  const auto item = static_cast<std::int32_t>(blockIdx.x), place = static_cast<std::int32_t>(threadIdx.x);
  const std::int32_t size = beams * of_row;
  const Candidate mine = place < size ? candidates[std::int64_t{item} * size + place] : Candidate{NAN, 0};
  scores[place] = mine.score;
  __syncthreads();
  std::int32_t better = 0;
#pragma unroll 8
  for (std::int32_t other = 0; other < size; ++other) {
    const float its = scores[other];
    better += its > mine.score || (its == mine.score && other < place) ? 1 : 0;
  }
  if (isnan(mine.score) || better >= count) return;
  const std::int32_t to = item * count + better;
  out.scores[to] = mine.score;
  out.rows[to] = item * beams + place / of_row;
  out.tokens[to] = mine.token;
}

}  // namespace

void top_continuations(cudaStream_t stream, const TopContinuations& op, std::byte* workspace, NoDistribution* failure) {
  if (op.items * op.beams == 0) return;
  const std::int64_t vocabulary = op.logits.extent(1), per_row = std::min(op.count, vocabulary);
  const std::int64_t all_rows = op.items * op.beams;
  auto* const sums = reinterpret_cast<PartSum*>(workspace);
  auto* const candidates = reinterpret_cast<Candidate*>(sums + all_rows * kRowParts);
  const auto rows = static_cast<unsigned>(all_rows);
  const auto* const logits = reinterpret_cast<const float*>(op.logits.data());
  const auto* const row_scores = reinterpret_cast<const float*>(op.row_scores.data());
  std::int64_t of_row = per_row;  // candidates
  if (vocabulary <= kMostInParts && rows <= kMostHigh) {
    const dim3 parts(kRowParts, rows);
    const auto width = static_cast<std::int32_t>(vocabulary), size = part_size(vocabulary);
    const bool whole_quads = vocabulary % 4 == 0 && reinterpret_cast<std::uintptr_t>(logits) % sizeof(float4) == 0;
    if (!op.normalised) {
      measure_parts<<<parts, kPartThreads, 0, stream>>>(logits, width, size, whole_quads, sums);
      spillway::cuda::check(cudaGetLastError(), "top_continuations: sums");
    }
    search_parts<<<parts, kPartThreads, 0, stream>>>(logits, row_scores, width, size, whole_quads,
                                                     op.normalised ? nullptr : sums, static_cast<std::int32_t>(per_row),
                                                     candidates, failure);
    of_row = kRowParts * per_row;
  } else {
    search_rows<<<rows, kRowThreads, 0, stream>>>(logits, row_scores, vocabulary, per_row, op.normalised, candidates,
                                                  failure);
  }
  spillway::cuda::check(cudaGetLastError(), "top_continuations: rows");
  const Outputs out{reinterpret_cast<float*>(op.scores.data()), reinterpret_cast<std::int32_t*>(op.rows.data()),
                    reinterpret_cast<std::int32_t*>(op.tokens.data())};
  const auto items = static_cast<unsigned>(op.items);
  if (op.beams * of_row <= kItemThreads)
    rank_rows<<<items, kItemThreads, 0, stream>>>(candidates, static_cast<std::int32_t>(op.beams),
                                                  static_cast<std::int32_t>(of_row),
                                                  static_cast<std::int32_t>(op.count), out);
  else merge_rows<<<items, kItemThreads, 0, stream>>>(candidates, op.beams, of_row, op.count, out);
  spillway::cuda::check(cudaGetLastError(), "top_continuations: items");
}

}  // namespace spillway::kernels::cuda
