// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/attention.hpp"

#include "kernels/cpu/attention_head.hpp"
#include "kernels/cpu/attention_workspace.hpp"
#include "kernels/cpu/distance_bias.hpp"
#include "kernels/cpu/instruction_set.hpp"
#include "kernels/cpu/rows.hpp"
#include "kernels/cpu/small_tasks.hpp"
#include "kernels/cpu/softmax.hpp"

namespace spillway::kernels::cpu {
namespace {

/// What one task has in its thread's scratch. Rows of scores have `stride` elements.
struct Scratch {
  explicit Scratch(const Attention& op)
      : stride(padded(op.keys.longest)),
        scores(attention_scratch(forward_scratch_floats(extents_of(op))).data()),
        factors(scores + block_rows(op.queries.longest) * stride),
        bias(factors + factor_floats(op.keys.longest)),
        queries(bias + block_rows(op.queries.longest) + stride),
        keys(queries + block_rows(op.queries.longest) * op.head_size) {}

  std::int64_t stride;
  float* scores;
  float* factors;  // of one row: dropout
  float* bias;     // of the block by distance, that of its last query to the first key on
  float* queries;  // bf16 only: a block of q, then of out
  float* keys;     // bf16 only: k, then v
};

/// Queries [begin, begin + rows) of one head of one sequence.
struct QueryBlock {
  AttentionHead at;
  std::int64_t begin;
  std::int64_t rows;
};

/// Turns the scores of a block into probabilities, with dropout where it is active.
void normalise(const Attention& op, const DistanceBias& bias, const QueryBlock& block, const Panel& scores) {
  const Scratch scratch(op);
  const std::int64_t last = block.begin + block.rows - 1;
  if (bias)
    bias.read(block.at.head(), -last, {scratch.bias, static_cast<std::size_t>(block.rows + scores.columns - 1)});
  float* const log_sum_exp = op.log_sum_exp ? op.log_sum_exp.as<float>().data() : nullptr;

  for (std::int64_t i = 0; i < block.rows; ++i) {
    const std::int64_t query = block.begin + i;
    const ScoreRow row{.scores = scores.data + i * scores.stride,
                       .bias = bias ? scratch.bias + (last - query) : nullptr,
                       .visible = block.at.visible(query),
                       .columns = scores.columns};
    const ProbabilityRow place = op.dropout.active() ? block.at.probability_row(query) : ProbabilityRow{};
    float sum = 0.0F;
    run_vectorised([&] [[gnu::always_inline]] {
      sum = softmax_row(row);
      if (!op.dropout.active()) return;
      dropout_factors(op.dropout, place, row.visible, scratch.factors);
      for (std::int64_t j = 0; j < row.visible; j += kLanes) {
        const Lanes kept = keep_first(load(scratch.factors + j), row.visible - j, 0.0F);
        store(row.scores + j, load(row.scores + j) * kept);
      }
    });
    if (log_sum_exp != nullptr) log_sum_exp[block.at.statistic(query)] = sum;
  }
}

template <typename T>
void attend(const Attention& op, const DistanceBias& bias, const QueryBlock& block) {
  const AttentionHead& at = block.at;
  const std::int64_t keys = at.visible(block.begin + block.rows - 1);
  const std::int64_t width = op.heads * op.head_size;
  const Scratch scratch(op);
  const Panel scores{scratch.scores, block.rows, keys, scratch.stride};

  product_with_transposed(in_fp32(at.query_panel<const T>(op.q, op.q_stride, block.begin, block.rows), scratch.queries),
                          in_fp32(at.key_panel<const T>(op.k, op.k_stride, keys), scratch.keys), scores);
  normalise(op, bias, block, scores);
  const auto out = at.query_panel<T>(op.out, width, block.begin, block.rows);
  const Panel sums = fp32_for(out, scratch.queries);
  product(as_const(scores), in_fp32(at.key_panel<const T>(op.v, op.v_stride, keys), scratch.keys), sums);
  write_back(sums, out);
}

}  // namespace

void attention(ThreadPool& pool, const Attention& op) {
  const DistanceBias bias(op.bias, 1 - op.queries.longest, op.keys.longest - 1);
  const std::int64_t rows = block_rows(op.queries.longest);
  const std::int64_t blocks = (op.queries.longest + rows - 1) / rows;
  const std::int64_t work = 2 * rows * op.keys.longest * op.head_size;
  visit_storage(op.q.dtype(), [&]<typename T>(std::type_identity<T>) {
    parallel_for_small(pool, op.queries.count * op.heads * blocks, work, [&](std::int64_t task) {
      const AttentionHead at(op, task / blocks / op.heads, task / blocks % op.heads);
      const std::int64_t begin = task % blocks * rows;
      if (begin < at.queries()) attend<T>(op, bias, {at, begin, std::min(rows, at.queries() - begin)});
    });
  });
}

}  // namespace spillway::kernels::cpu
