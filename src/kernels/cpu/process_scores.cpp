// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/process_scores.hpp"

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include "kernels/cpu/position.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

void penalise_repetition(std::span<const std::int32_t> seen, float penalty, std::span<float> scores) {
  std::vector<std::int32_t> once(seen.begin(), seen.end());
  std::sort(once.begin(), once.end());
  once.erase(std::unique(once.begin(), once.end()), once.end());
  for (const std::int32_t token : once) {
    float& score = scores[static_cast<std::size_t>(token)];
    score = score < 0.0F ? score * penalty : score / penalty;
  }
}

void forbid_repeated_ngrams(std::span<const std::int32_t> seen, std::size_t size, std::span<float> scores) {
  if (seen.size() < size) return;
  const std::span<const std::int32_t> last = seen.last(size - 1);
  for (std::size_t begin = 0; begin + size <= seen.size(); ++begin) {
    const std::span<const std::int32_t> ngram = seen.subspan(begin, size);
    if (std::equal(last.begin(), last.end(), ngram.begin()))
      scores[static_cast<std::size_t>(ngram.back())] = kForbidden;
  }
}

}  // namespace

void process_scores(ThreadPool& pool, const ProcessScores& op) {
  const auto vocabulary = static_cast<std::size_t>(op.scores.extent(1));
  const auto capacity = static_cast<std::size_t>(op.capacity);
  const std::span<const std::int32_t> tokens = op.tokens.as<std::int32_t>();
  const std::span<const std::int32_t> ancestry = op.ancestry.as<std::int32_t>();
  const std::int64_t length = position_of(op.position, op.capacity, "process_scores") + 1;
  pool.parallel_for(op.rows, [&](std::int64_t row) {
    const std::size_t r = static_cast<std::size_t>(row);
    const std::span<float> scores = op.scores.as<float>().subspan(r * vocabulary, vocabulary);
    std::vector<std::int32_t> seen(static_cast<std::size_t>(length));
    for (std::size_t j = 0; j < seen.size(); ++j)
      seen[j] = tokens[static_cast<std::size_t>(ancestry[r * capacity + j]) * capacity + j];
    if (op.repetition_penalty != 1.0F) penalise_repetition(seen, op.repetition_penalty, scores);
    if (op.no_repeat_ngram_size > 0)
      forbid_repeated_ngrams(seen, static_cast<std::size_t>(op.no_repeat_ngram_size), scores);
    if (length < op.min_length) scores[static_cast<std::size_t>(op.end_token)] = kForbidden;
  });
}

}  // namespace spillway::kernels::cpu
