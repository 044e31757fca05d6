// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention_workspace.hpp"
#include "kernels/cpu/dropout.hpp"
#include "kernels/cpu/panel.hpp"
#include "kernels/model_ops.hpp"

namespace spillway::kernels::cpu {

/// What decides how much scratch memory a task of this op needs.
[[nodiscard]] inline AttentionExtents extents_of(const Attention& op) {
  return {.longest_queries = op.queries.longest,
          .longest_keys = op.keys.longest,
          .heads = op.heads,
          .head_size = op.head_size,
          .dtype = op.q.dtype()};
}

/// One head of one sequence of an Attention: which rows and columns it works on.
class AttentionHead {
 public:
  AttentionHead(const Attention& op, std::int64_t sequence, std::int64_t head)
      : op_(op),
        head_(head),
        first_query_(offset(op.queries, sequence)),
        queries_(offset(op.queries, sequence + 1) - first_query_),
        first_key_(offset(op.keys, sequence)),
        keys_(offset(op.keys, sequence + 1) - first_key_) {}

  [[nodiscard]] std::int64_t head() const noexcept { return head_; }
  [[nodiscard]] std::int64_t queries() const noexcept { return queries_; }
  [[nodiscard]] std::int64_t keys() const noexcept { return keys_; }
  /// Keys that query `query` of this sequence sees.
  [[nodiscard]] std::int64_t visible(std::int64_t query) const {
    return op_.causal ? std::min(query + 1, keys_) : keys_;
  }

  /// This head's columns of queries [begin, begin + count) in a tensor of `stride` elements per row. T: what the
  /// elements are in memory, const or not.
  template <typename T, typename View>
  [[nodiscard]] PanelOf<T> query_panel(const View& view, std::int64_t stride, std::int64_t begin,
                                       std::int64_t count) const {
    return {reinterpret_cast<T*>(view.data()) + (first_query_ + begin) * stride + head_ * op_.head_size, count,
            op_.head_size, stride};
  }
  /// Likewise of the first `count` keys.
  template <typename T, typename View>
  [[nodiscard]] PanelOf<T> key_panel(const View& view, std::int64_t stride, std::int64_t count) const {
    return {reinterpret_cast<T*>(view.data()) + first_key_ * stride + head_ * op_.head_size, count, op_.head_size,
            stride};
  }

  /// The place of a value per query and head, as in log_sum_exp.
  [[nodiscard]] std::size_t statistic(std::int64_t query) const {
    return static_cast<std::size_t>((first_query_ + query) * op_.heads + head_);
  }
  /// The dropout stream of query `query`. Only with dropout: otherwise a job need not give the rows' samples and
  /// positions.
  [[nodiscard]] ProbabilityRow probability_row(std::int64_t query) const {
    const auto row = static_cast<std::size_t>(first_query_ + query);
    return {.sample = static_cast<std::uint32_t>(op_.queries.row_sample.as<std::int32_t>()[row]),
            .head = static_cast<std::uint32_t>(head_),
            .query = static_cast<std::uint32_t>(op_.queries.row_position.as<std::int32_t>()[row]),
            .keys = keys_};
  }

 private:
  static std::int64_t offset(const PackedSequences& sequences, std::int64_t at) {
    return sequences.offsets.as<std::int32_t>()[static_cast<std::size_t>(at)];
  }

  const Attention& op_;
  std::int64_t head_;
  std::int64_t first_query_, queries_;
  std::int64_t first_key_, keys_;
};

}  // namespace spillway::kernels::cpu
