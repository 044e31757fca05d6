// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/model_ops.hpp"

namespace spillway::kernels {

/// What an attention test varies.
struct AttentionCase {
  std::string name;
  std::vector<std::int32_t> query_lengths;
  std::vector<std::int32_t> key_lengths;  // empty: self-attention, and q, k, v lie packed in one matrix
  std::int64_t heads = 1;
  std::int64_t head_size = 1;
  bool causal = false;
  bool bias = false;
  float dropout = 0.0F;
  std::int64_t buckets = 8, max_distance = 20;  // of the bias
};

/// Dense values in double: q (Nq, heads, head_size), k, v (Nk, ...), table (buckets, heads).
struct AttentionValues {
  std::vector<double> q, k, v, table;
};

/// A forward or backward result in double; `lse` (Nq, heads).
struct AttentionResult {
  std::vector<double> out, lse;
};

/// The formulas of Attention written down plainly, element by element.
class AttentionReference {
 public:
  explicit AttentionReference(const AttentionCase& which);

  [[nodiscard]] AttentionResult forward(const AttentionValues& values) const;
  /// The gradients of Σ d_out · out.
  [[nodiscard]] AttentionValues gradient(const AttentionValues& values, const std::vector<double>& d_out) const;

  /// Random inputs that floats hold exactly.
  [[nodiscard]] AttentionValues example_values() const;
  [[nodiscard]] std::vector<double> example_d_out() const;

  const AttentionCase shape;
  const std::vector<std::int32_t> query_offsets, key_offsets;
  std::vector<std::int32_t> row_sample, row_position;  // of the queries
  const std::int64_t buckets = shape.buckets, max_distance = shape.max_distance;
  const Dropout dropout;

  [[nodiscard]] bool self() const { return shape.key_lengths.empty(); }
  [[nodiscard]] std::int64_t query_rows() const { return query_offsets.back(); }
  [[nodiscard]] std::int64_t key_rows() const { return key_offsets.back(); }
  [[nodiscard]] std::int64_t width() const { return shape.heads * shape.head_size; }

 private:
  struct Place {
    std::size_t sequence, head;
    std::int64_t query;  // in its sequence
  };
  struct Row {
    std::vector<double> probability, multiplier;
    double lse;
  };
  [[nodiscard]] Row probabilities(const AttentionValues& values, const Place& place) const;
  [[nodiscard]] std::size_t query_at(const Place& place) const;
  [[nodiscard]] std::size_t key_at(const Place& place, std::int64_t key) const;
  [[nodiscard]] std::size_t table_at(const Place& place, std::int64_t key) const;
  template <typename Visit>
  void each_row(const Visit& visit) const;
};

}  // namespace spillway::kernels
