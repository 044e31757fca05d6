// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/top_continuations.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <tuple>
#include <vector>

#include "kernels/cpu/instruction_set.hpp"
#include "kernels/cpu/lanes.hpp"
#include "kernels/cpu/log_softmax.hpp"

namespace spillway::kernels::cpu {
namespace {

struct Candidate {
  float score;
  std::int32_t row;
  std::int32_t token;
};

bool better(const Candidate& a, const Candidate& b) {
  return std::tie(b.score, a.row, a.token) < std::tie(a.score, b.row, b.token);
}

/// The best candidates of one row so far, descending. Tokens are offered in ascending order, so that of equal scores
/// the earlier one stays.
class BestOfRow {
 public:
  BestOfRow(std::span<Candidate> best, std::int32_t row) : best_(best), row_(row) {}

  [[nodiscard]] bool takes(float score) const { return filled_ < best_.size() || score > best_.back().score; }
  void offer(float score, std::int64_t token) {
    if (!takes(score)) return;
    std::size_t place = filled_ < best_.size() ? filled_++ : filled_ - 1;
    for (; place > 0 && best_[place - 1].score < score; --place) best_[place] = best_[place - 1];
    best_[place] = {score, row_, static_cast<std::int32_t>(token)};
  }

 private:
  std::span<Candidate> best_;
  std::int32_t row_;
  std::size_t filled_ = 0;
};

/// Fills `best` from one row's scores: row_score + ((x - peak) - log_sum).
void search_row(std::span<const float> logits, const Normaliser& normaliser, float row_score, std::int32_t row,
                std::span<Candidate> best) {
  const auto size = static_cast<std::int64_t>(logits.size());
  const auto [peak, log_sum] = normaliser;
  BestOfRow found(best, row);
  run_vectorised([&] [[gnu::always_inline]] {
    alignas(64) std::array<float, kScoreBlock> scores;
    for (std::int64_t begin = 0; begin < size; begin += kScoreBlock) {
      const std::int64_t end = std::min(begin + kScoreBlock, size);
      Lanes most = all_lanes(kNoScore);
      each_lanes(
          logits.data(), begin, end, [&](std::int64_t i, const Lanes& x) __attribute__((always_inline)) {
            const Lanes score = row_score + ((x - peak) - log_sum);
            store(scores.data() + (i - begin), score);
            most = larger(score, most);
          });
      if (!found.takes(largest(most))) continue;
      for (std::int64_t i = begin; i < end; ++i) found.offer(scores[static_cast<std::size_t>(i - begin)], i);
    }
  });
}

}  // namespace

void top_continuations(ThreadPool& pool, const TopContinuations& op) {
  const std::int64_t vocabulary = op.logits.extent(1);
  const std::int64_t per_row = std::min(op.count, vocabulary);
  const std::span<const float> logits = op.logits.as<float>();
  const std::span<const float> row_scores = op.row_scores.as<float>();
  std::vector<Candidate> candidates(static_cast<std::size_t>(op.items * op.beams * per_row));
  pool.parallel_for(op.items * op.beams, [&](std::int64_t row) {
    const std::span<const float> its =
        logits.subspan(static_cast<std::size_t>(row * vocabulary), static_cast<std::size_t>(vocabulary));
    search_row(
        its, op.normalised ? Normaliser{} : normaliser_of(its, row), row_scores[static_cast<std::size_t>(row)],
        static_cast<std::int32_t>(row),
        std::span(candidates).subspan(static_cast<std::size_t>(row * per_row), static_cast<std::size_t>(per_row)));
  });

  const std::span<float> scores = op.scores.as<float>();
  const std::span<std::int32_t> rows = op.rows.as<std::int32_t>();
  const std::span<std::int32_t> tokens = op.tokens.as<std::int32_t>();
  for (std::int64_t item = 0; item < op.items; ++item) {
    const auto begin = candidates.begin() + item * op.beams * per_row;
    std::partial_sort(begin, begin + op.count, begin + op.beams * per_row, better);
    for (std::int64_t c = 0; c < op.count; ++c) {
      const auto to = static_cast<std::size_t>(item * op.count + c);
      scores[to] = begin[c].score;
      rows[to] = begin[c].row;
      tokens[to] = begin[c].token;
    }
  }
}

std::size_t top_continuations_workspace_bytes(std::int64_t items, std::int64_t beams, std::int64_t count) noexcept {
  return static_cast<std::size_t>(items * beams * count) * sizeof(Candidate);
}

}  // namespace spillway::kernels::cpu
