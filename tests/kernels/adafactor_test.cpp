// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/adafactor.hpp"

#include <cmath>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kernels/cpu/state_codec.hpp"
#include "kernels/state_fixtures.hpp"

namespace spillway::kernels::cpu {
namespace {

using test::flat;
using test::instruction_sets;
using test::normals;
using test::same_bits;

/// One tensor under Adafactor, cut into pieces as ranks and extents are.
struct Tensor {
  Tensor(std::int64_t row_count, std::int64_t column_count, std::vector<float> start)
      : rows(row_count), columns(column_count), parameter(std::move(start)) {
    if (vector()) exp_avg_sq.resize(parameter.size());
    row.resize(static_cast<std::size_t>(rows));
    column.resize(static_cast<std::size_t>(columns));
    row_factors = row;
    column_factors = column;
  }
  [[nodiscard]] bool vector() const { return rows == 1; }
  [[nodiscard]] std::int64_t count() const { return rows * columns; }
  [[nodiscard]] MatrixPiece piece(std::int64_t begin, std::int64_t end) const {
    return {.rows = rows, .columns = columns, .tensor_begin = begin, .count = end - begin};
  }

  std::int64_t rows, columns;
  std::vector<float> parameter, gradient, exp_avg_sq, row, column, row_factors, column_factors;
};

struct How {
  int threads = 1;
  InstructionSet set = InstructionSet::baseline;
  std::int64_t sum_cut = 1 << 30;  // elements of a rank's piece
  std::int64_t cut = 1 << 30;      // elements of an extent
  bool split_parameters = false;   // parameters in 2 + 2 bytes
  float gradient_scale = 1.0F;
};

std::vector<MatrixPiece> pieces_of(const Tensor& tensor, std::int64_t cut) {
  std::vector<MatrixPiece> pieces;
  for (std::int64_t begin = 0; begin < tensor.count();) {
    const std::int64_t end = std::min(tensor.count(), begin + cut);
    pieces.push_back(tensor.piece(begin, end));
    begin = end;
  }
  return pieces;
}

void step(Tensor& tensor, const AdafactorSettings& settings, double weight_decay, double given_rate, std::int64_t t,
          const How& how) {
  ThreadPool pool(how.threads);
  const double beta2 = adafactor_beta2(settings, t);
  const auto count = static_cast<double>(tensor.count());
  std::vector<double> row_sums(static_cast<std::size_t>(tensor.rows)),
      column_sums(static_cast<std::size_t>(tensor.columns));
  std::vector<double> parameter_sum(1), update_sum(1);
  test::SplitParameter split(tensor.parameter.size());
  ParameterView parameter{.weight = flat(tensor.parameter)};
  if (how.split_parameters) {
    parameter = split.view();
    encode_parameter(pool, {flat(tensor.parameter), parameter});
  }
  const auto gradient_of = [&](const MatrixPiece& piece) {
    return AdafactorGradient{flat(tensor.gradient).flat(piece.tensor_begin, piece.count), how.gradient_scale};
  };
  const std::vector<MatrixPiece> of_ranks = pieces_of(tensor, how.sum_cut);
  for (const MatrixPiece& piece : of_ranks) {
    AdafactorSums sums{.piece = piece, .gradient = gradient_of(piece), .eps1 = settings.eps1};
    if (!tensor.vector()) {
      sums.row_sums = flat(row_sums).flat(piece.first_row(), piece.touched_rows());
      sums.column_sums = flat(column_sums);
    }
    sums.parameter = parameter.flat(piece.tensor_begin, piece.count);
    sums.parameter_sum = flat(parameter_sum);
    adafactor_sums(pool, sums, how.set);
  }
  if (!tensor.vector()) {
    adafactor_factors({.row_sums = flat(row_sums),
                       .column_sums = flat(column_sums),
                       .beta2 = beta2,
                       .exp_avg_sq_row = flat(tensor.row),
                       .exp_avg_sq_col = flat(tensor.column),
                       .row_factors = flat(tensor.row_factors),
                       .column_factors = flat(tensor.column_factors)});
  }
  const auto update_of = [&](const MatrixPiece& piece) {
    AdafactorUpdate update{.piece = piece, .gradient = gradient_of(piece)};
    if (tensor.vector()) update.exp_avg_sq = flat(tensor.exp_avg_sq).flat(piece.tensor_begin, piece.count);
    else update.row_factors = flat(tensor.row_factors), update.column_factors = flat(tensor.column_factors);
    return update;
  };
  for (const MatrixPiece& piece : of_ranks) {
    if (tensor.vector())
      adafactor_second_moment(pool,
                              {.gradient = gradient_of(piece),
                               .beta2 = beta2,
                               .eps1 = settings.eps1,
                               .exp_avg_sq = flat(tensor.exp_avg_sq).flat(piece.tensor_begin, piece.count)},
                              how.set);
    adafactor_update_sum(pool, {update_of(piece), flat(update_sum)}, how.set);
  }
  const double rate = adafactor_learning_rate(settings, given_rate, t, std::sqrt(parameter_sum[0] / count));
  const double divisor = adafactor_divisor(settings, std::sqrt(update_sum[0] / count));
  for (const MatrixPiece& piece : pieces_of(tensor, how.cut))
    adafactor_step(pool,
                   {.update = update_of(piece),
                    .parameter = parameter.flat(piece.tensor_begin, piece.count),
                    .learning_rate = rate,
                    .divisor = divisor,
                    .weight_decay = weight_decay},
                   how.set);
  if (how.split_parameters) decode_parameter(pool, {parameter, flat(tensor.parameter)});
}

/// The same step in double precision, as the words of transformers' class say it.
struct PlainTensor {
  explicit PlainTensor(const Tensor& tensor)
      : rows(static_cast<std::size_t>(tensor.rows)),
        columns(static_cast<std::size_t>(tensor.columns)),
        p(tensor.parameter.begin(), tensor.parameter.end()),
        v(p.size()),
        row(rows),
        column(columns) {}

  void step(const std::vector<float>& gradient, const AdafactorSettings& s, double weight_decay, double given_rate,
            int t, double scale) {
    const double beta2 = 1 - std::pow(t, s.decay_rate), n = static_cast<double>(p.size());
    std::vector<double> u(p.size()), row_means(rows), column_means(columns);
    double square_p = 0.0, square_u = 0.0, row_mean = 0.0;
    for (std::size_t i = 0; i < p.size(); ++i) {
      u[i] = scale * static_cast<double>(gradient[i]);
      square_p += p[i] * p[i];
      row_means[i / columns] += (u[i] * u[i] + s.eps1) / static_cast<double>(columns);
      column_means[i % columns] += (u[i] * u[i] + s.eps1) / static_cast<double>(rows);
      v[i] = beta2 * v[i] + (1 - beta2) * (u[i] * u[i] + s.eps1);
    }
    for (std::size_t r = 0; r < rows; ++r) {
      row[r] = beta2 * row[r] + (1 - beta2) * row_means[r];
      row_mean += row[r] / static_cast<double>(rows);
    }
    for (std::size_t c = 0; c < columns; ++c) column[c] = beta2 * column[c] + (1 - beta2) * column_means[c];
    for (std::size_t i = 0; i < p.size(); ++i) {
      u[i] /= rows == 1 ? std::sqrt(v[i]) : std::sqrt(row[i / columns] / row_mean) * std::sqrt(column[i % columns]);
      square_u += u[i] * u[i];
    }
    double rate = given_rate;
    if (s.relative_step) rate = std::min(s.warmup_init ? 1e-6 * t : 1e-2, 1 / std::sqrt(t));
    if (s.scale_parameter) rate *= std::max(s.eps2, std::sqrt(square_p / n));
    const double clip = std::max(1.0, std::sqrt(square_u / n) / s.clip_threshold);
    for (std::size_t i = 0; i < p.size(); ++i) p[i] -= weight_decay * rate * p[i] + rate * u[i] / clip;
  }

  std::size_t rows, columns;
  std::vector<double> p, v, row, column;
};

const AdafactorSettings kSettings[] = {
    {.scale_parameter = false, .relative_step = false},
    {.clip_threshold = 0.5, .scale_parameter = true, .relative_step = false},
    {.scale_parameter = true, .relative_step = true},
    {.scale_parameter = false, .relative_step = true, .warmup_init = true},
};

TEST(Adafactor, FollowsTransformers_InAllItsSettings) {
  const auto numbers = nlohmann::json::parse(std::ifstream(SPILLWAY_TEST_REFERENCE "/adafactor.json"));
  for (const char* name : {"given_rate", "scaled_rate", "relative_step", "warmup_init", "warmup_init_scaled"}) {
    const auto& given = numbers.at(name).at("settings");
    const AdafactorSettings settings{.clip_threshold = given.value("clip_threshold", 1.0),
                                     .scale_parameter = given.value("scale_parameter", true),
                                     .relative_step = given.value("relative_step", true),
                                     .warmup_init = given.value("warmup_init", false)};
    for (const char* kind : {"matrix", "vector"}) {
      const bool matrix = kind == std::string("matrix");
      Tensor tensor(matrix ? numbers.at("rows").get<std::int64_t>() : 1,
                    matrix ? numbers.at("columns").get<std::int64_t>() : 40,
                    numbers.at("start").at(kind).get<std::vector<float>>());
      for (std::size_t t = 1; t <= 4; ++t) {
        tensor.gradient = numbers.at("gradients").at(t - 1).at(kind).get<std::vector<float>>();

        step(tensor, settings, given.value("weight_decay", 0.0), given.value("lr", 0.0), static_cast<std::int64_t>(t),
             {});

        const auto after = numbers.at(name).at("after").at(t - 1).at(kind).get<std::vector<float>>();
        for (std::size_t i = 0; i < after.size(); ++i)
          ASSERT_NEAR(tensor.parameter[i], after[i], 4e-7F) << name << " " << kind << " step " << t << " element " << i;
      }
    }
  }
}

TEST(Adafactor, FollowsItsFormulaInDoublePrecision_AtAnyShape) {
  for (const AdafactorSettings& settings : kSettings)
    for (const auto& [rows, columns] : {std::pair{1, 700}, {32, 8}, {3, 515}, {300, 7}, {64, 256}}) {
      const auto count = static_cast<std::size_t>(rows * columns);
      Tensor tensor(rows, columns, normals(count, 1));
      PlainTensor plain(tensor);
      for (int t = 1; t <= 5; ++t) {
        tensor.gradient = normals(count, 10 + static_cast<std::uint64_t>(t));
        for (std::size_t i = 0; i < count; ++i) tensor.gradient[i] *= static_cast<float>(i % 13) * 1e-3F;

        step(tensor, settings, 0.01, 3e-3, t,
             {.threads = 2, .set = widest_instruction_set(), .sum_cut = 1000, .gradient_scale = 0.25F});
        plain.step(tensor.gradient, settings, 0.01, 3e-3, t, 0.25);
      }
      for (std::size_t i = 0; i < count; ++i)
        ASSERT_NEAR(static_cast<double>(tensor.parameter[i]), plain.p[i], 2e-6) << rows << " x " << columns;
    }
}

TEST(Adafactor, OnEveryInstructionSet_AnyThreads_AndInExtentsOfAnySize_GivesTheSameBits) {
  for (const AdafactorSettings& settings : kSettings)
    for (const auto& [rows, columns] : {std::pair{1, 1500}, {40, 8}, {70, 515}, {1030, 513}}) {
      const auto count = static_cast<std::size_t>(rows * columns);
      const bool large = count > 100'000;  // more than one chunk
      if (large && !settings.scale_parameter) continue;
      const auto run = [&](const How& how) {
        Tensor tensor(rows, columns, normals(count, 1));
        for (std::int64_t t = 1; t <= 2; ++t) {
          tensor.gradient = normals(count, 10 + static_cast<std::uint64_t>(t));
          step(tensor, settings, 0.01, 3e-3, t, how);
        }
        return tensor;
      };
      const Tensor expected = run({});
      std::vector<How> ways = {
          {.threads = 3}, {.threads = 2, .cut = 256}, {.cut = 256 * 37}, {.split_parameters = true}};
      for (const InstructionSet set : instruction_sets()) ways.push_back({.threads = 2, .set = set, .cut = 1 << 14});
      for (const How& how : ways) {
        if (how.cut < 10'000 && large) continue;  // many small ops
        const Tensor tensor = run(how);

        EXPECT_TRUE(same_bits(tensor.parameter, expected.parameter)) << rows << " x " << columns << " cut " << how.cut;
        EXPECT_TRUE(same_bits(tensor.row, expected.row));
        EXPECT_TRUE(same_bits(tensor.column, expected.column));
        EXPECT_TRUE(same_bits(tensor.exp_avg_sq, expected.exp_avg_sq));
      }
    }
}

TEST(Adafactor, AGradientInBf16_CountsAsTheSameNumbersInFp32) {
  ThreadPool pool(1);
  std::vector<float> gradient = normals(1200, 5);
  std::vector<std::uint16_t> rounded(gradient.size());
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    rounded[i] = bf16_from_float(gradient[i]);
    gradient[i] = float_from_bf16(rounded[i]);
  }
  std::vector<double> rows(2), columns(600), bf16_rows(2), bf16_columns(600);
  const MatrixPiece piece{.rows = 2, .columns = 600, .tensor_begin = 0, .count = 1200};

  adafactor_sums(
      pool, {.piece = piece, .gradient = {flat(gradient), 0.5F}, .row_sums = flat(rows), .column_sums = flat(columns)});
  adafactor_sums(pool, {.piece = piece,
                        .gradient = {test::bf16(rounded), 0.5F},
                        .row_sums = flat(bf16_rows),
                        .column_sums = flat(bf16_columns)});

  EXPECT_EQ(bf16_rows, rows);
  EXPECT_EQ(bf16_columns, columns);
}

TEST(Adafactor, WithoutAnyGradient_ChangesNothing) {
  Tensor tensor(6, 50, normals(300, 1));
  tensor.gradient.assign(300, 0.0F);
  const std::vector<float> before = tensor.parameter;

  step(tensor, kSettings[0], 0.0, 1e-2, 1, {});

  EXPECT_TRUE(same_bits(tensor.parameter, before));
}

}  // namespace
}  // namespace spillway::kernels::cpu
