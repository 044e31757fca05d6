// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <vector>

#include "kernels/cpu/attention.hpp"
#include "kernels/cpu/attention_head.hpp"
#include "kernels/cpu/attention_workspace.hpp"
#include "kernels/cpu/distance_bias.hpp"
#include "kernels/cpu/instruction_set.hpp"
#include "kernels/cpu/lanes.hpp"
#include "kernels/cpu/math.hpp"
#include "kernels/cpu/rows.hpp"
#include "kernels/cpu/small_tasks.hpp"

namespace spillway::kernels::cpu {
namespace {

/// What one task has in its thread's scratch. Rows of scores have `stride` elements.
struct Scratch {
  explicit Scratch(const Attention& op)
      : stride(padded(op.keys.longest)),
        scores(attention_scratch(gradient_scratch_floats(extents_of(op))).data()),
        d_scores(scores + block_rows(op.queries.longest) * stride),
        factors(d_scores + block_rows(op.queries.longest) * stride),
        bias(factors + factor_floats(op.keys.longest)),
        d_bias(bias + op.queries.longest + stride),
        q(d_bias + op.queries.longest + stride),
        d_out(q + block_rows(op.queries.longest) * op.head_size),
        d_q(d_out + block_rows(op.queries.longest) * op.head_size),
        k(d_q + block_rows(op.queries.longest) * op.head_size),
        v(k + op.keys.longest * op.head_size),
        d_k(v + op.keys.longest * op.head_size),
        d_v(d_k + op.keys.longest * op.head_size) {}

  std::int64_t stride;
  float* scores;
  float* d_scores;
  float* factors;            // of one row: dropout
  float* bias;               // of the whole head by distance, that of the last query to the first key on
  float* d_bias;             // likewise
  float *q, *d_out, *d_q;    // bf16 only: of a block
  float *k, *v, *d_k, *d_v;  // bf16 only: of all keys
};

/// One row on its way back: scores become what multiplied v, d_scores (the gradient of that) that of the scores.
struct GradientRow {
  float* scores;
  float* d_scores;
  const float* factors;  // nullptr: no dropout
  const float* bias;     // nullptr: no bias
  float* d_bias;
  std::int64_t visible, columns;
  float log_sum_exp;
  float out_dot_d_out;
};

[[gnu::always_inline]] inline void gradient_row(const GradientRow& row) {
  std::int64_t j = 0;
  for (; j < row.visible; j += kLanes) {
    const std::int64_t left = row.visible - j;
    Lanes score = load(row.scores + j);
    if (row.bias != nullptr) score += load(row.bias + j);
    const Lanes probability = keep_first(exp(score - row.log_sum_exp), left, 0.0F);
    Lanes d_probability = load(row.d_scores + j);
    Lanes used = probability;
    if (row.factors != nullptr) {
      const Lanes factor = keep_first(load(row.factors + j), left, 0.0F);
      used *= factor;
      d_probability *= factor;
    }
    const Lanes d_score = keep_first(probability * (d_probability - row.out_dot_d_out), left, 0.0F);
    store(row.scores + j, used);
    store(row.d_scores + j, d_score);
    if (row.d_bias != nullptr) store(row.d_bias + j, load(row.d_bias + j) + d_score);
  }
  for (; j < row.columns; j += kLanes) {
    store(row.scores + j, Lanes{});
    store(row.d_scores + j, Lanes{});
  }
}

/// The rows of the block of queries from `begin` on, `tile` its scores.
template <typename T>
void gradient_rows(const AttentionGradient& op, const AttentionHead& at, std::int64_t begin, const Panel& tile) {
  const Attention& forward = op.forward;
  const Scratch scratch(forward);
  const std::int64_t width = forward.heads * forward.head_size;
  const auto out = at.query_panel<const T>(forward.out, width, begin, tile.rows);
  const auto d_out = at.query_panel<const T>(op.d_out, width, begin, tile.rows);
  const std::span<const float> log_sum_exp = forward.log_sum_exp.as<float>();
  const bool dropout = forward.dropout.active();

  for (std::int64_t i = 0; i < tile.rows; ++i) {
    const std::int64_t query = begin + i;
    const std::int64_t shift = at.queries() - 1 - query;
    const std::int64_t visible = at.visible(query);
    const ProbabilityRow place = dropout ? at.probability_row(query) : ProbabilityRow{};
    run_vectorised([&] [[gnu::always_inline]] {
      if (dropout) dropout_factors(forward.dropout, place, visible, scratch.factors);
      gradient_row({.scores = scratch.scores + i * scratch.stride,
                    .d_scores = scratch.d_scores + i * scratch.stride,
                    .factors = dropout ? scratch.factors : nullptr,
                    .bias = forward.bias.table ? scratch.bias + shift : nullptr,
                    .d_bias = op.d_bias ? scratch.d_bias + shift : nullptr,
                    .visible = visible,
                    .columns = tile.columns,
                    .log_sum_exp = log_sum_exp[at.statistic(query)],
                    .out_dot_d_out = dot(out.data + i * width, d_out.data + i * width, forward.head_size)});
    });
  }
}

/// All of one head of one sequence; adds to its `d_buckets`.
template <typename T>
void attend_backwards(const AttentionGradient& op, const DistanceBias& bias, const AttentionHead& at,
                      std::span<float> d_buckets) {
  const Attention& forward = op.forward;
  const Scratch scratch(forward);
  const std::int64_t width = forward.heads * forward.head_size;
  const auto distances = static_cast<std::size_t>(at.queries() + at.keys() - 1);
  if (bias) bias.read(at.head(), 1 - at.queries(), {scratch.bias, distances});
  if (op.d_bias) std::fill_n(scratch.d_bias, at.queries() + scratch.stride, 0.0F);
  const ConstPanel all_k = in_fp32(at.key_panel<const T>(forward.k, forward.k_stride, at.keys()), scratch.k);
  const ConstPanel all_v = in_fp32(at.key_panel<const T>(forward.v, forward.v_stride, at.keys()), scratch.v);
  const auto stored_d_k = at.key_panel<T>(op.d_k, forward.k_stride, at.keys());
  const auto stored_d_v = at.key_panel<T>(op.d_v, forward.v_stride, at.keys());
  const Panel d_k = fp32_for(stored_d_k, scratch.d_k);
  const Panel d_v = fp32_for(stored_d_v, scratch.d_v);
  fill_zero(d_k);
  fill_zero(d_v);

  const std::int64_t step = block_rows(forward.queries.longest);
  for (std::int64_t begin = 0; begin < at.queries(); begin += step) {
    const std::int64_t rows = std::min(step, at.queries() - begin);
    const std::int64_t keys = at.visible(begin + rows - 1);
    const ConstPanel q = in_fp32(at.query_panel<const T>(forward.q, forward.q_stride, begin, rows), scratch.q);
    const ConstPanel d_out = in_fp32(at.query_panel<const T>(op.d_out, width, begin, rows), scratch.d_out);
    const ConstPanel k = first_rows(all_k, keys);
    const Panel scores{scratch.scores, rows, keys, scratch.stride};
    const Panel d_scores{scratch.d_scores, rows, keys, scratch.stride};
    product_with_transposed(q, k, scores);
    product_with_transposed(d_out, first_rows(all_v, keys), d_scores);
    gradient_rows<T>(op, at, begin, scores);
    add_transposed_product(as_const(scores), d_out, first_rows(d_v, keys));
    add_transposed_product(as_const(d_scores), q, first_rows(d_k, keys));
    const auto stored_d_q = at.query_panel<T>(op.d_q, forward.q_stride, begin, rows);
    const Panel d_q = fp32_for(stored_d_q, scratch.d_q);
    product(as_const(d_scores), k, d_q);
    write_back(d_q, stored_d_q);
  }
  write_back(d_k, stored_d_k);
  write_back(d_v, stored_d_v);
  if (op.d_bias) bias.add_gradient({scratch.d_bias, distances}, 1 - at.queries(), d_buckets);
}

}  // namespace

void attention_gradient(ThreadPool& pool, const AttentionGradient& op) {
  const Attention& forward = op.forward;
  const std::int64_t sequences = forward.queries.count;
  const DistanceBias bias(forward.bias, 1 - forward.queries.longest, forward.keys.longest - 1);
  const std::int64_t buckets = op.d_bias ? op.d_bias.extent(0) : 0;
  // Each (sequence, head) has sums of its own, so that their order does not depend on the threads.
  std::vector<float> d_buckets(static_cast<std::size_t>(sequences * forward.heads * buckets));
  const std::int64_t work = 5 * forward.queries.longest * forward.keys.longest * forward.head_size;
  visit_storage(forward.q.dtype(), [&]<typename T>(std::type_identity<T>) {
    parallel_for_small(pool, sequences * forward.heads, work, [&](std::int64_t task) {
      attend_backwards<T>(
          op, bias, AttentionHead(forward, task / forward.heads, task % forward.heads),
          std::span(d_buckets).subspan(static_cast<std::size_t>(task * buckets), static_cast<std::size_t>(buckets)));
    });
  });

  if (!op.d_bias) return;
  const std::span<float> d_bias = op.d_bias.as<float>();
  for (std::int64_t bucket = 0; bucket < buckets; ++bucket) {
    for (std::int64_t head = 0; head < forward.heads; ++head) {
      double sum = 0.0;
      for (std::int64_t s = 0; s < sequences; ++s) {
        sum += d_buckets[static_cast<std::size_t>((s * forward.heads + head) * buckets + bucket)];
      }
      d_bias[static_cast<std::size_t>(bucket * forward.heads + head)] += static_cast<float>(sum);
    }
  }
}

}  // namespace spillway::kernels::cpu
