// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/top_continuations.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <tuple>
#include <vector>

#include <fmt/format.h>

#include "core/error.hpp"
#include "kernels/cpu/instruction_set.hpp"
#include "kernels/cpu/lanes.hpp"
#include "kernels/cpu/math.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr std::int64_t kBlock = 1024;  // elements that are looked at, and summed in fp32, at a time

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

/// Calls visit(i, the elements from i on) for each sixteen elements of [begin, end); what is missing at the end is
/// -infinity.
template <typename Visit>
[[gnu::always_inline]] inline void each_lanes(const float* values, std::int64_t begin, std::int64_t end,
                                              const Visit& visit) {
  std::int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) visit(i, load(values + i));
  if (i < end) visit(i, load_part(values + i, end - i, kNothing));
}

/// Fills `best` from one row's logits.
void search_row(std::span<const float> logits, float row_score, std::int32_t row, std::span<Candidate> best) {
  const auto size = static_cast<std::int64_t>(logits.size());
  const float* const values = logits.data();
  float peak = kNothing;
  double total = 0.0;
  run_vectorised([&] [[gnu::always_inline]] {
    Lanes most = all_lanes(kNothing);
    each_lanes(
        values, 0, size, [&](std::int64_t, const Lanes& x) __attribute__((always_inline)) { most = larger(x, most); });
    peak = largest(most);
    for (std::int64_t begin = 0; begin < size; begin += kBlock) {
      Lanes block{};
      each_lanes(
          values, begin,
          std::min(begin + kBlock, size), [&](std::int64_t, const Lanes& x) __attribute__((always_inline)) {
            block += exp(x - peak);
          });
      total += static_cast<double>(sum(block));
    }
  });
  if (!std::isfinite(total)) {
    throw DataError(fmt::format(
        "the logits of row {} of the generation step are no distribution: largest {}, sum of powers {}; the "
        "model's weights or activations hold NaN or infinity",
        row, peak, total));
  }

  const auto log_sum = static_cast<float>(std::log(total));
  BestOfRow found(best, row);
  run_vectorised([&] [[gnu::always_inline]] {
    alignas(64) std::array<float, kBlock> scores;
    for (std::int64_t begin = 0; begin < size; begin += kBlock) {
      const std::int64_t end = std::min(begin + kBlock, size);
      Lanes most = all_lanes(kNothing);
      each_lanes(
          values, begin, end, [&](std::int64_t i, const Lanes& x) __attribute__((always_inline)) {
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
    search_row(
        logits.subspan(static_cast<std::size_t>(row * vocabulary), static_cast<std::size_t>(vocabulary)),
        row_scores[static_cast<std::size_t>(row)], static_cast<std::int32_t>(row),
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
