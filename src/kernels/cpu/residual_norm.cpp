// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/residual_norm.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "kernels/cpu/dropout.hpp"
#include "kernels/cpu/instruction_set.hpp"
#include "kernels/cpu/lanes.hpp"
#include "kernels/cpu/rows.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr std::int64_t kMostBlocks = 64;  // of rows, whose parts of d_weight are summed by themselves

/// Writes hidden_out of one row (if it is given) and returns the row's sum of squares. T of the branch.
template <typename T>
[[gnu::always_inline]] inline float add_branch(const ResidualNorm& op, RowDropout& dropout, std::int64_t row,
                                               std::int64_t width) {
  const float* hidden_in = floats(op.hidden_in) + row * width;
  const T* branch = op.branch ? elements<T>(op.branch) + row * width : nullptr;
  float* hidden_out = op.hidden_out ? floats(op.hidden_out) + row * width : nullptr;
  Lanes squares{};
  dropout.start_row(row);
  for (std::int64_t chunk = 0; chunk < width; chunk += kDropoutChunk) {
    const float* factors = branch != nullptr ? dropout.factors(chunk) : nullptr;
    const std::int64_t chunk_end = std::min(width, chunk + kDropoutChunk);
    for (std::int64_t c = chunk; c < chunk_end; c += kLanes) {
      Lanes hidden = load(hidden_in + c, width - c);
      if (branch != nullptr) hidden = hidden + load(branch + c, width - c) * load(factors + (c - chunk));
      if (hidden_out != nullptr) store(hidden_out + c, hidden, width - c);
      squares = squares + hidden * hidden;
    }
  }
  return sum(squares);
}

template <typename T>
[[gnu::always_inline]] inline void normalise(const ResidualNorm& op, std::int64_t begin, std::int64_t end) {
  const std::int64_t width = op.weight.elements();
  const T* weight = elements<T>(op.weight);
  RowDropout dropout(op.dropout, op.sequences, width);
  RowDropout output_dropout(op.output_dropout, op.sequences, width);
  for (std::int64_t row = begin; row < end; ++row) {
    const float squares = add_branch<T>(op, dropout, row, width);
    const float rstd = 1.0F / std::sqrt(squares / static_cast<float>(width) + op.epsilon);
    floats(op.rstd)[row] = rstd;
    const float* hidden = floats(op.hidden_out ? op.hidden_out : op.hidden_in) + row * width;
    T* normed = elements<T>(op.normed) + row * width;
    output_dropout.start_row(row);
    for (std::int64_t chunk = 0; chunk < width; chunk += kDropoutChunk) {
      const float* factors = output_dropout.factors(chunk);
      const std::int64_t chunk_end = std::min(width, chunk + kDropoutChunk);
      for (std::int64_t c = chunk; c < chunk_end; c += kLanes) {
        const Lanes value = load(hidden + c, width - c) * rstd * load(weight + c, width - c);
        store(normed + c, value * load(factors + (c - chunk)), width - c);
      }
    }
  }
}

/// Σ_c g · weight · hidden of one row, g = output_dropout'(d_normed).
template <typename T>
[[gnu::always_inline]] inline float weighted_dot(const ResidualNormGradient& op, RowDropout& output_dropout,
                                                 std::int64_t row, std::int64_t width) {
  const T* d_normed = elements<T>(op.d_normed) + row * width;
  const float* hidden = floats(op.hidden) + row * width;
  const T* weight = elements<T>(op.weight);
  Lanes dot{};
  for (std::int64_t chunk = 0; chunk < width; chunk += kDropoutChunk) {
    const float* factors = output_dropout.factors(chunk);
    const std::int64_t chunk_end = std::min(width, chunk + kDropoutChunk);
    for (std::int64_t c = chunk; c < chunk_end; c += kLanes) {
      const Lanes g = load(d_normed + c, width - c) * load(factors + (c - chunk));
      dot = dot + g * load(weight + c, width - c) * load(hidden + c, width - c);
    }
  }
  return sum(dot);
}

/// Rows [begin, end); their part of d_weight is added to `partial` (width), which starts as zeros.
template <typename T>
[[gnu::always_inline]] inline void normalise_gradient(const ResidualNormGradient& op, std::int64_t begin,
                                                      std::int64_t end, float* partial) {
  const std::int64_t width = op.weight.elements();
  const T* weight = elements<T>(op.weight);
  RowDropout dropout(op.dropout, op.sequences, width);
  RowDropout output_dropout(op.output_dropout, op.sequences, width);
  for (std::int64_t row = begin; row < end; ++row) {
    const T* d_normed = elements<T>(op.d_normed) + row * width;
    const float* hidden = floats(op.hidden) + row * width;
    float* d_hidden = floats(op.d_hidden) + row * width;
    T* d_branch = op.d_branch ? elements<T>(op.d_branch) + row * width : nullptr;
    const float rstd = floats(op.rstd)[row];
    output_dropout.start_row(row);
    dropout.start_row(row);
    const float shared = weighted_dot<T>(op, output_dropout, row, width) * rstd * rstd / static_cast<float>(width);
    for (std::int64_t chunk = 0; chunk < width; chunk += kDropoutChunk) {
      const float* output_factors = output_dropout.factors(chunk);
      const float* factors = d_branch != nullptr ? dropout.factors(chunk) : nullptr;
      const std::int64_t chunk_end = std::min(width, chunk + kDropoutChunk);
      for (std::int64_t c = chunk; c < chunk_end; c += kLanes) {
        const std::int64_t count = width - c;
        const Lanes g = load(d_normed + c, count) * load(output_factors + (c - chunk));
        const Lanes h = load(hidden + c, count);
        store(partial + c, load(partial + c, count) + g * (h * rstd), count);
        const Lanes d = load(d_hidden + c, count) + (g * load(weight + c, count) - h * shared) * rstd;
        store(d_hidden + c, d, count);
        if (d_branch != nullptr) store(d_branch + c, d * load(factors + (c - chunk)), count);
      }
    }
  }
}

/// Memory of the calling thread, which it keeps; its contents are anything.
std::span<float> norm_partials(std::int64_t floats) {
  thread_local std::vector<float> memory;
  const auto wanted = static_cast<std::size_t>(floats);
  if (memory.size() < wanted) {
    std::vector<float>().swap(memory);  // first, so that old and new never exist together
    memory.resize(wanted);
  }
  return std::span(memory).first(wanted);
}

}  // namespace

std::size_t residual_norm_workspace_bytes(std::int64_t width) noexcept {
  return static_cast<std::size_t>(kMostBlocks * width) * sizeof(float);
}

void residual_norm(ThreadPool& pool, const ResidualNorm& op) {
  visit_storage(op.weight.dtype(), [&]<typename T>(std::type_identity<T>) {
    parallel_rows(pool, op.hidden_in.extent(0), op.hidden_in.extent(1),
                  [&](std::int64_t begin, std::int64_t end) { vectorised<normalise<T>>(op, begin, end); });
  });
}

void residual_norm_gradient(ThreadPool& pool, const ResidualNormGradient& op) {
  const std::int64_t rows = op.hidden.extent(0);
  const std::int64_t width = op.hidden.extent(1);
  const std::int64_t block = std::max<std::int64_t>(16, (rows + kMostBlocks - 1) / kMostBlocks);
  const std::int64_t blocks = (rows + block - 1) / block;
  const std::span<float> partials = norm_partials(blocks * width);
  std::ranges::fill(partials, 0.0F);
  visit_storage(op.weight.dtype(), [&]<typename T>(std::type_identity<T>) {
    parallel_blocks(pool, rows, block, [&](std::int64_t begin, std::int64_t end) {
      vectorised<normalise_gradient<T>>(op, begin, end, partials.data() + begin / block * width);
    });
  });
  parallel_blocks(pool, width, 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c) {
      double total = 0.0;
      for (std::int64_t b = 0; b < blocks; ++b)
        total += static_cast<double>(partials[static_cast<std::size_t>(b * width + c)]);
      floats(op.d_weight)[c] += static_cast<float>(total);
    }
  });
}

}  // namespace spillway::kernels::cpu
