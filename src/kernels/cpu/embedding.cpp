// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/embedding.hpp"

#include <fmt/format.h>

#include "core/error.hpp"
#include "kernels/cpu/dropout.hpp"
#include "kernels/cpu/instruction_set.hpp"
#include "kernels/cpu/lanes.hpp"
#include "kernels/cpu/rows.hpp"

namespace spillway::kernels::cpu {
namespace {

void require_ids(const ConstTensorView& ids, std::int64_t vocabulary) {
  std::int64_t row = 0;
  for (const std::int32_t id : ids.as<std::int32_t>()) {
    if (id < 0 || id >= vocabulary)
      throw Error(
          fmt::format("token id {} of row {} is not in the embedding table, which has {} rows", id, row, vocabulary));
    ++row;
  }
}

template <typename T>
[[gnu::always_inline]] inline void look_up(const Embedding& op, std::int64_t begin, std::int64_t end) {
  const std::int64_t width = op.table.extent(1);
  RowDropout dropout(op.dropout, op.sequences, width);
  for (std::int64_t row = begin; row < end; ++row) {
    const T* from = elements<T>(op.table) + integers(op.ids)[row] * width;
    float* to = floats(op.out) + row * width;
    dropout.start_row(row);
    for (std::int64_t chunk = 0; chunk < width; chunk += kDropoutChunk) {
      const float* factors = dropout.factors(chunk);
      const std::int64_t chunk_end = std::min(width, chunk + kDropoutChunk);
      for (std::int64_t c = chunk; c < chunk_end; c += kLanes)
        store(to + c, load(from + c, width - c) * load(factors + (c - chunk)), width - c);
    }
  }
}

/// Columns [begin, end) of the table, all rows of the batch. `begin` is a multiple of the dropout chunk, one chunk at
/// most.
[[gnu::always_inline]] inline void add_columns(const EmbeddingGradient& op, std::int64_t begin, std::int64_t end) {
  const std::int64_t width = op.d_table.extent(1);
  RowDropout dropout(op.dropout, op.sequences, width);
  for (std::int64_t row = 0; row < op.ids.elements(); ++row) {
    const float* from = floats(op.d_out) + row * width;
    float* to = floats(op.d_table) + integers(op.ids)[row] * width;
    dropout.start_row(row);
    const float* factors = dropout.factors(begin);
    for (std::int64_t c = begin; c < end; c += kLanes)
      store(to + c, load(to + c, end - c) + load(from + c, end - c) * load(factors + (c - begin)), end - c);
  }
}

}  // namespace

void embedding(ThreadPool& pool, const Embedding& op) {
  require_ids(op.ids, op.table.extent(0));
  visit_storage(op.table.dtype(), [&]<typename T>(std::type_identity<T>) {
    parallel_rows(pool, op.ids.elements(), op.table.extent(1),
                  [&](std::int64_t begin, std::int64_t end) { vectorised<look_up<T>>(op, begin, end); });
  });
}

void embedding_gradient(ThreadPool& pool, const EmbeddingGradient& op) {
  require_ids(op.ids, op.d_table.extent(0));
  // Over columns: a token may occur in several rows, and its rows must be added in order.
  parallel_blocks(pool, op.d_table.extent(1), kDropoutChunk,
                  [&](std::int64_t begin, std::int64_t end) { vectorised<add_columns>(op, begin, end); });
}

}  // namespace spillway::kernels::cpu
