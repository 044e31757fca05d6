// SPDX-License-Identifier: Apache-2.0
#include "train/adafactor.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace spillway::train {
namespace {

std::int64_t signed_size(std::size_t size) { return static_cast<std::int64_t>(size); }

}  // namespace

Adafactor::Adafactor(const OptimizerParts& parts, const model::T5Layout& layout, kernels::AdafactorSettings settings,
                     double weight_decay, AdafactorState& state, comm::Communicator& world)
    : Optimizer(parts),
      layout_(layout),
      settings_(settings),
      weight_decay_(weight_decay),
      state_(state),
      world_(world),
      queue_(parts.device.create_compute_queue()),
      sums_(static_cast<std::size_t>(parts.zero.map->units())),
      sums_size_(sums_.size(), 0),
      steps_(parts.zero.map->tensors().size()) {
  const std::vector<TensorSpec>& tensors = parts_.zero.map->tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    std::size_t& size = sums_size_[static_cast<std::size_t>(tensors[i].unit)];
    Sums sums{.tensor = static_cast<int>(i), .rows = size};
    size += static_cast<std::size_t>(tensors[i].shape[0]);
    sums.columns = size;
    if (is_matrix(sums.tensor)) size += static_cast<std::size_t>(tensors[i].shape[1]);
    sums.parameter = size++;
    sums_[static_cast<std::size_t>(tensors[i].unit)].push_back(sums);
  }
}

std::size_t Adafactor::workspace_bytes(const Zero& zero, const std::vector<plan::UnitRole>& units,
                                       bool scale_parameter) {
  std::vector<std::size_t> sums(units.size(), 0);
  for (const TensorSpec& tensor : zero.map->tensors()) {
    const std::int64_t lines = tensor.shape[0] + (tensor.shape.rank() == 2 ? tensor.shape[1] : 0);
    sums[static_cast<std::size_t>(tensor.unit)] += static_cast<std::size_t>(lines + 1) * sizeof(double);
  }
  std::size_t largest = 0;
  const auto copies =
      static_cast<std::size_t>(zero.map->ranks()) + 3;  // of all ranks, and mine, one of theirs, the total
  for (int unit = 0; unit < zero.map->units(); ++unit) {
    if (!units[static_cast<std::size_t>(unit)].trainable) continue;
    const std::size_t piece =
        scale_parameter ? 2 * static_cast<std::size_t>(zero.map->shard_elements(unit)) * sizeof(float) : 0;
    largest = std::max(largest, copies * sums[static_cast<std::size_t>(unit)] + piece);
  }
  return largest;
}

bool Adafactor::is_matrix(int tensor) const {
  return parts_.zero.map->tensors()[static_cast<std::size_t>(tensor)].shape.rank() == 2;
}

kernels::MatrixPiece Adafactor::matrix_piece(int tensor, std::int64_t tensor_begin, std::int64_t count,
                                             std::int64_t first) const {
  const Shape& shape = parts_.zero.map->tensors()[static_cast<std::size_t>(tensor)].shape;
  return {.rows = is_matrix(tensor) ? shape[0] : 1,
          .columns = is_matrix(tensor) ? shape[1] : shape.elements(),
          .tensor_begin = tensor_begin,
          .count = count,
          .first = first};
}

void Adafactor::prepare(int unit, const UpdateNumbers& numbers) {
  std::vector<double> sums = sum_over_pieces(sums_of_piece(unit, numbers));
  update_factors(unit, sums, numbers);
  const std::vector<double> update_sums = sum_over_pieces(update_sums_of_piece(unit, numbers));
  const std::vector<Sums>& of_unit = sums_[static_cast<std::size_t>(unit)];
  for (std::size_t i = 0; i < of_unit.size(); ++i) {
    const auto tensor = static_cast<std::size_t>(of_unit[i].tensor);
    const auto elements = static_cast<double>(parts_.zero.map->tensors()[tensor].shape.elements());
    steps_[tensor] = {
        .learning_rate = kernels::adafactor_learning_rate(settings_, numbers.learning_rate, numbers.step,
                                                          std::sqrt(sums[of_unit[i].parameter] / elements)),
        .divisor = kernels::adafactor_divisor(settings_, std::sqrt(update_sums[i] / elements))};
  }
}

/// Sums of this rank's piece; nothing where it has no part of a tensor.
std::vector<double> Adafactor::sums_of_piece(int unit, const UpdateNumbers& numbers) {
  const Zero& zero = parts_.zero;
  const Range mine = zero.map->shard(unit, zero.piece());
  const TensorView gradient = parts_.gradients.piece(unit);
  std::vector<float> parameters = parameters_of_piece(unit);
  std::vector<double> sums(sums_size_[static_cast<std::size_t>(unit)], 0.0);
  const auto view = [&](std::size_t begin, std::int64_t count) {
    return TensorView(std::span(sums).subspan(begin, static_cast<std::size_t>(count)), Shape{count});
  };
  for (const TensorPiece& piece : zero.map->pieces(unit, mine)) {
    const Sums& at = *std::ranges::find(sums_[static_cast<std::size_t>(unit)], piece.tensor, &Sums::tensor);
    const ConstTensorView part = gradient.flat(piece.range_begin, piece.count);
    kernels::AdafactorSums op{
        .piece = matrix_piece(piece.tensor, piece.tensor_begin, piece.count, mine.begin + piece.range_begin),
        .gradient = {.values = part, .scale = numbers.gradient_scale},
        .eps1 = settings_.eps1,
        .row_sums = {},
        .column_sums = {},
        .parameter = {},
        .parameter_sum = {}};
    if (is_matrix(piece.tensor)) {
      op.row_sums = view(at.rows + static_cast<std::size_t>(op.piece.first_row()), op.piece.touched_rows());
      op.column_sums = view(at.columns, op.piece.columns);
    } else {
      // A vector is not summed over anything: all ranks get its gradient, exactly.
      std::vector<float> values(static_cast<std::size_t>(piece.count));
      parts_.ops.decode_state(
          *queue_, {.state = {.values = TensorView(const_cast<std::byte*>(part.data()), part.dtype(), part.shape()),
                              .scales = {}},
                    .values = TensorView(std::span(values), Shape{piece.count})});
      queue_->synchronize();
      std::copy(values.begin(), values.end(), sums.begin() + signed_size(at.rows) + piece.tensor_begin);
    }
    if (settings_.scale_parameter) {
      const auto all = std::span(parameters)
                           .subspan(static_cast<std::size_t>(piece.range_begin), static_cast<std::size_t>(piece.count));
      op.parameter = {.weight = TensorView(all, Shape{piece.count}), .master = {}};
      op.parameter_sum = view(at.parameter, 1);
    }
    parts_.ops.adafactor_sums(*queue_, op);
  }
  queue_->synchronize();
  return sums;
}

/// In fp32; nothing if parameters are not looked at.
std::vector<float> Adafactor::parameters_of_piece(int unit) {
  if (!settings_.scale_parameter) return {};
  const ShardState& state = parts_.state;
  if (state.on_nvme(StateKind::weight) || state.on_nvme(StateKind::master)) finish();  // the ring must be idle
  const Range piece = parts_.zero.piece_in_owned(unit);
  std::vector<float> values(static_cast<std::size_t>(piece.size()));
  parts_.state.read(name_of(StateKind::master), unit, piece, values);
  return values;
}

std::vector<double> Adafactor::sum_over_pieces(const std::vector<double>& mine) {
  const auto all = world_.exchange(std::as_bytes(std::span(mine)));
  std::vector<double> sums(mine.size(), 0.0);
  std::vector<double> part(mine.size());
  for (const std::size_t rank : parts_.zero.rank_of_piece()) {
    if (!part.empty()) std::memcpy(part.data(), all[rank].data(), part.size() * sizeof(double));
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += part[i];
  }
  return sums;
}

void Adafactor::update_factors(int unit, std::vector<double>& sums, const UpdateNumbers& numbers) {
  const double beta2 = kernels::adafactor_beta2(settings_, numbers.step);
  const auto view = [](auto& values, std::size_t begin, std::size_t count) {
    return TensorView(std::span(values).subspan(begin, count), Shape{signed_size(count)});
  };
  for (const Sums& at : sums_[static_cast<std::size_t>(unit)]) {
    const AdafactorState::Factors& factors = state_.factors(at.tensor);
    if (is_matrix(at.tensor)) {
      const std::size_t rows = factors.exp_avg_sq_row.size(), columns = factors.exp_avg_sq_col.size();
      parts_.ops.adafactor_factors(*queue_, {.row_sums = view(sums, at.rows, rows),
                                             .column_sums = view(sums, at.columns, columns),
                                             .beta2 = beta2,
                                             .exp_avg_sq_row = view(factors.exp_avg_sq_row, 0, rows),
                                             .exp_avg_sq_col = view(factors.exp_avg_sq_col, 0, columns),
                                             .row_factors = view(factors.row_factors, 0, rows),
                                             .column_factors = view(factors.column_factors, 0, columns)});
    } else {
      const std::size_t count = factors.exp_avg_sq.size();
      std::vector<float> gradient(sums.begin() + signed_size(at.rows), sums.begin() + signed_size(at.rows + count));
      parts_.ops.adafactor_second_moment(
          *queue_, {.gradient = {.values = view(gradient, 0, count), .scale = numbers.gradient_scale},
                    .beta2 = beta2,
                    .eps1 = settings_.eps1,
                    .exp_avg_sq = view(factors.exp_avg_sq, 0, count)});
      queue_->synchronize();  // `gradient` ends here
    }
  }
  queue_->synchronize();
}

kernels::AdafactorUpdate Adafactor::update_of(const TensorPiece& piece, std::int64_t unit_begin,
                                              ConstTensorView gradient, float gradient_scale) const {
  const AdafactorState::Factors& factors = state_.factors(piece.tensor);
  const auto view = [](std::span<float> values) { return TensorView(values, Shape{signed_size(values.size())}); };
  kernels::AdafactorUpdate update{
      .piece = matrix_piece(piece.tensor, piece.tensor_begin, piece.count, unit_begin + piece.range_begin),
      .gradient = {.values = gradient, .scale = gradient_scale},
      .row_factors = {},
      .column_factors = {},
      .exp_avg_sq = {}};
  if (is_matrix(piece.tensor)) {
    update.row_factors = view(factors.row_factors);
    update.column_factors = view(factors.column_factors);
  } else {
    update.exp_avg_sq = view(factors.exp_avg_sq.subspan(static_cast<std::size_t>(piece.tensor_begin),
                                                        static_cast<std::size_t>(piece.count)));
  }
  return update;
}

std::vector<double> Adafactor::update_sums_of_piece(int unit, const UpdateNumbers& numbers) {
  const Zero& zero = parts_.zero;
  const Range mine = zero.map->shard(unit, zero.piece());
  const TensorView gradient = parts_.gradients.piece(unit);
  const std::vector<Sums>& of_unit = sums_[static_cast<std::size_t>(unit)];
  std::vector<double> sums(of_unit.size(), 0.0);
  for (const TensorPiece& piece : zero.map->pieces(unit, mine)) {
    const auto at = std::ranges::find(of_unit, piece.tensor, &Sums::tensor) - of_unit.begin();
    parts_.ops.adafactor_update_sum(
        *queue_,
        {.update = update_of(piece, mine.begin, gradient.flat(piece.range_begin, piece.count), numbers.gradient_scale),
         .sum = TensorView(std::span(sums).subspan(static_cast<std::size_t>(at), 1), Shape{1})});
  }
  queue_->synchronize();
  return sums;
}

void Adafactor::update_extent(const Extent& extent, const StateViews& views, const UpdateNumbers& numbers) {
  const std::int64_t owned = parts_.zero.owned(extent.unit).begin;
  const Range in_unit{owned + extent.range.begin, owned + extent.range.end};
  const TensorView gradient = parts_.gradients.owned(extent.unit).flat(extent.range.begin, extent.range.size());
  for (const TensorPiece& piece : parts_.zero.map->pieces(extent.unit, in_unit)) {
    const Step& step = steps_[static_cast<std::size_t>(piece.tensor)];
    parts_.ops.adafactor_step(
        queue(),
        {.update =
             update_of(piece, in_unit.begin, gradient.flat(piece.range_begin, piece.count), numbers.gradient_scale),
         .parameter = views.parameter.flat(piece.range_begin, piece.count),
         .learning_rate = step.learning_rate,
         .divisor = step.divisor,
         .weight_decay = layout_.traits()[static_cast<std::size_t>(piece.tensor)].decay ? weight_decay_ : 0.0});
  }
}

}  // namespace spillway::train
