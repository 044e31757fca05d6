// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/adafactor.hpp"

#include <cmath>
#include <span>

#include "kernels/cpu/adafactor_tiles.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr std::int64_t kBlock = 16384;

/// moment = beta2 · moment + (1 - beta2) · sum / count, rounded once.
void decay_towards_means(const ConstTensorView& sums, std::int64_t count, double beta2, const TensorView& moment) {
  const std::span<const double> from = sums.as<double>();
  const std::span<float> to = moment.as<float>();
  for (std::size_t i = 0; i < to.size(); ++i)
    to[i] =
        static_cast<float>(beta2 * static_cast<double>(to[i]) + (1.0 - beta2) * (from[i] / static_cast<double>(count)));
}

[[gnu::always_inline]] inline void decay_towards_squares(const AdafactorSecondMoment& op, std::int64_t begin,
                                                         std::int64_t end) {
  const auto beta2 = static_cast<float>(op.beta2), rest = static_cast<float>(1.0 - op.beta2);
  const auto eps1 = static_cast<float>(op.eps1);
  alignas(64) float tile[kTile];
  for (; begin < end; begin += kTile) {
    const std::int64_t count = std::min(kTile, end - begin);
    const float* g = read_scaled(op.gradient, begin, count, tile);
    float* moment = floats(op.exp_avg_sq) + begin;
    for (std::int64_t i = 0; i < count; ++i) moment[i] = std::fma(rest, std::fma(g[i], g[i], eps1), beta2 * moment[i]);
  }
}

[[gnu::always_inline]] inline void sum_update(const AdafactorUpdate& update, std::int64_t begin, std::int64_t end,
                                              double* sum) {
  alignas(64) float tile[kSumBlock];
  make_update(update, begin, end, tile);
  *sum = sum_of_squares_of(tile, end - begin);
}

[[gnu::always_inline]] inline void apply(const AdafactorStep& op, std::int64_t begin, std::int64_t end) {
  const auto decay = static_cast<float>(1.0 - op.learning_rate * op.weight_decay);
  const auto step_size = static_cast<float>(op.learning_rate / op.divisor);
  alignas(64) float update[kTile], tile[kTile];
  for (; begin < end; begin += kTile) {
    const std::int64_t count = std::min(kTile, end - begin);
    make_update(op.update, begin, begin + count, update);
    float* parameter = read_tile(op.parameter, begin, count, tile);
    for (std::int64_t i = 0; i < count; ++i) parameter[i] = std::fma(-step_size, update[i], parameter[i] * decay);
    write_tile(op.parameter, begin, count, parameter);
  }
}

}  // namespace

void adafactor_factors(const AdafactorFactors& op) {
  const std::int64_t rows = op.row_sums.elements(), columns = op.column_sums.elements();
  decay_towards_means(op.row_sums, columns, op.beta2, op.exp_avg_sq_row);
  decay_towards_means(op.column_sums, rows, op.beta2, op.exp_avg_sq_col);
  const std::span<const float> row = op.exp_avg_sq_row.as<float>(), column = op.exp_avg_sq_col.as<float>();
  double mean = 0.0;
  for (std::size_t begin = 0; begin < row.size(); begin += kSumBlock) {
    WideSum of_block;
    for (std::size_t r = begin; r < std::min(row.size(), begin + kSumBlock); ++r)
      of_block.add(static_cast<std::int64_t>(r - begin), static_cast<double>(row[r]));
    mean += of_block.total();
  }
  mean /= static_cast<double>(rows);
  const std::span<float> row_factors = op.row_factors.as<float>(), column_factors = op.column_factors.as<float>();
  for (std::size_t r = 0; r < row.size(); ++r)
    row_factors[r] = static_cast<float>(1.0 / std::sqrt(static_cast<double>(row[r]) / mean));
  for (std::size_t c = 0; c < column.size(); ++c)
    column_factors[c] = static_cast<float>(1.0 / std::sqrt(static_cast<double>(column[c])));
}

void adafactor_second_moment(ThreadPool& pool, const AdafactorSecondMoment& op, InstructionSet set) {
  parallel_blocks(pool, op.exp_avg_sq.elements(), kBlock, [&](std::int64_t begin, std::int64_t end) {
    vectorised_for<decay_towards_squares>(set, op, begin, end);
  });
}

void adafactor_update_sum(ThreadPool& pool, const AdafactorUpdateSum& op, InstructionSet set) {
  add_span_sums(pool, op.update.piece.count, op.sum.as<double>().data(),
                [&](std::int64_t begin, std::int64_t end, double* sum) {
                  vectorised_for<sum_update>(set, op.update, begin, end, sum);
                });
}

void adafactor_step(ThreadPool& pool, const AdafactorStep& op, InstructionSet set) {
  parallel_blocks(pool, op.update.piece.count, kBlock,
                  [&](std::int64_t begin, std::int64_t end) { vectorised_for<apply>(set, op, begin, end); });
}

}  // namespace spillway::kernels::cpu
