// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/adafactor.hpp"

#include <utility>

#include "kernels/cpu/adafactor.hpp"
#include "kernels/cuda/gpu_copies.hpp"
#include "kernels/state_fixtures.hpp"

namespace spillway::kernels::cuda {
namespace {

using test::flat;
using test::normals;
using test::same_bits;

class AdafactorOnGpu : public test::GpuTest {
 protected:
  /// Few, so that sums are made in several goes.
  std::span<double> partial_sums() { return {reinterpret_cast<double*>(allocate(3 * sizeof(double))), 3}; }
};

const MatrixPiece kPieces[] = {{.rows = 1, .columns = 1, .count = 1},
                               {.rows = 3, .columns = 700, .count = 2100},
                               {.rows = 200, .columns = 33, .tensor_begin = 50, .count = 6000},
                               {.rows = 70, .columns = 520, .tensor_begin = 519, .count = 30002},
                               {.rows = 150, .columns = 700, .tensor_begin = 0, .count = 105000}};

TEST_F(AdafactorOnGpu, Matrices_HaveTheBitsOfTheCpu) {
  cpu::ThreadPool pool(2);
  for (const MatrixPiece& piece : kPieces) {
    const auto count = static_cast<std::size_t>(piece.count);
    const std::vector<float> gradient = normals(count, 1);
    const auto touched = static_cast<std::size_t>(piece.touched_rows());
    std::vector<double> rows(touched, 0.25), columns(static_cast<std::size_t>(piece.columns), 0.5), sum(1, 3.0);
    std::vector<double> rows_found = rows, columns_found = columns, sum_found = sum;
    std::vector<float> parameter = normals(count, 2), parameter_found = parameter;
    AdafactorSums sums{.piece = piece,
                       .gradient = {flat(gradient), 0.7F},
                       .row_sums = flat(rows),
                       .column_sums = flat(columns),
                       .parameter = {.weight = flat(parameter)},
                       .parameter_sum = flat(sum)};
    cpu::adafactor_sums(pool, sums);
    const AdafactorGradient on_the_gpu{on_gpu(flat(gradient)), 0.7F};
    sums.gradient = on_the_gpu;
    sums.row_sums = on_gpu(flat(rows_found));
    sums.column_sums = on_gpu(flat(columns_found));
    sums.parameter = {.weight = on_gpu(flat(parameter_found))};
    sums.parameter_sum = on_gpu(flat(sum_found));

    adafactor_sums(stream_, sums, partial_sums());

    collect();
    EXPECT_TRUE(same_bits(rows_found, rows)) << piece.columns;
    EXPECT_TRUE(same_bits(columns_found, columns)) << piece.columns;
    EXPECT_TRUE(same_bits(sum_found, sum)) << piece.columns;

    std::vector<float> row_factors = normals(static_cast<std::size_t>(piece.rows), 3);
    std::vector<float> column_factors = normals(static_cast<std::size_t>(piece.columns), 4);
    AdafactorUpdate update{.piece = piece,
                           .gradient = {flat(gradient), 0.7F},
                           .row_factors = flat(row_factors),
                           .column_factors = flat(column_factors)};
    AdafactorStep step{.update = update,
                       .parameter = {.weight = flat(parameter)},
                       .learning_rate = 0.01,
                       .divisor = 1.5,
                       .weight_decay = 0.1};
    cpu::adafactor_update_sum(pool, {update, flat(sum)});
    cpu::adafactor_step(pool, step);
    update.gradient = on_the_gpu;
    update.row_factors = on_gpu(ConstTensorView(flat(row_factors)));
    update.column_factors = on_gpu(ConstTensorView(flat(column_factors)));
    step.update = update;
    step.parameter = {.weight = on_gpu(flat(parameter_found))};

    adafactor_update_sum(stream_, {update, on_gpu(flat(sum_found))}, partial_sums());
    adafactor_step(stream_, step);

    collect();
    EXPECT_TRUE(same_bits(sum_found, sum)) << piece.columns;
    EXPECT_TRUE(same_bits(parameter_found, parameter)) << piece.columns;
  }
}

constexpr std::pair<std::size_t, std::size_t> kSizes[] = {{1, 1}, {300, 7}, {5, 1025}, {40000, 3}};

TEST_F(AdafactorOnGpu, Factors_HaveTheBitsOfTheCpu) {
  for (const auto& [row_count, column_count] : kSizes) {
    std::vector<double> row_sums, column_sums;
    for (const float x : normals(row_count, 1)) row_sums.push_back(1e-3 + static_cast<double>(x) * x);
    for (const float x : normals(column_count, 2)) column_sums.push_back(1e-3 + static_cast<double>(x) * x);
    std::vector<float> expected[] = {std::vector<float>(row_count, 0.5F), std::vector<float>(column_count, 0.25F),
                                     std::vector<float>(row_count), std::vector<float>(column_count)};
    std::vector<float> found[] = {expected[0], expected[1], expected[2], expected[3]};
    AdafactorFactors factors{.row_sums = flat(row_sums),
                             .column_sums = flat(column_sums),
                             .beta2 = 0.9,
                             .exp_avg_sq_row = flat(expected[0]),
                             .exp_avg_sq_col = flat(expected[1]),
                             .row_factors = flat(expected[2]),
                             .column_factors = flat(expected[3])};
    cpu::adafactor_factors(factors);

    adafactor_factors(stream_, {.row_sums = on_gpu(factors.row_sums),
                                .column_sums = on_gpu(factors.column_sums),
                                .beta2 = 0.9,
                                .exp_avg_sq_row = on_gpu(flat(found[0])),
                                .exp_avg_sq_col = on_gpu(flat(found[1])),
                                .row_factors = on_gpu(flat(found[2])),
                                .column_factors = on_gpu(flat(found[3]))},
                      partial_sums());

    collect();
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(same_bits(found[i], expected[i])) << i;
  }
}

TEST_F(AdafactorOnGpu, Vectors_HaveTheBitsOfTheCpu) {
  cpu::ThreadPool pool(2);
  for (const std::size_t count : {1, 513, 3001}) {
    const std::vector<float> gradient = normals(count, 1);
    std::vector<float> moment(count, 0.01F), moment_found = moment, parameter = normals(count, 2);
    std::vector<float> parameter_found = parameter;
    std::vector<double> sum(1), sum_found(1);
    const auto columns = static_cast<std::int64_t>(count);
    const MatrixPiece piece{.columns = columns, .count = columns};
    cpu::adafactor_second_moment(pool, {.gradient = {flat(gradient)}, .beta2 = 0.9, .exp_avg_sq = flat(moment)});
    AdafactorUpdate update{.piece = piece, .gradient = {flat(gradient)}, .exp_avg_sq = flat(moment)};
    cpu::adafactor_update_sum(pool, {update, flat(sum)});
    cpu::adafactor_step(pool, {.update = update, .parameter = {.weight = flat(parameter)}, .learning_rate = 0.01});

    const AdafactorGradient on_the_gpu{on_gpu(flat(gradient))};
    const TensorView second_moment = on_gpu(flat(moment_found));
    update.gradient = on_the_gpu;
    update.exp_avg_sq = second_moment;
    adafactor_second_moment(stream_, {.gradient = on_the_gpu, .beta2 = 0.9, .exp_avg_sq = second_moment});
    adafactor_update_sum(stream_, {update, on_gpu(flat(sum_found))}, partial_sums());
    adafactor_step(stream_,
                   {.update = update, .parameter = {.weight = on_gpu(flat(parameter_found))}, .learning_rate = 0.01});

    collect();
    EXPECT_TRUE(same_bits(moment_found, moment));
    EXPECT_TRUE(same_bits(sum_found, sum));
    EXPECT_TRUE(same_bits(parameter_found, parameter));
  }
}

}  // namespace
}  // namespace spillway::kernels::cuda
