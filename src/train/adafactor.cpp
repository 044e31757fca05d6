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
                     double weight_decay, AdafactorState& state, comm::Communicator& world,
                     const std::vector<plan::UnitRole>& units)
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
  bool all_in_memory = true;
  for (int unit = 0; unit < parts_.zero.map->units(); ++unit)
    if (units[static_cast<std::size_t>(unit)].trainable && !parts_.state.parameters_in_memory(unit))
      all_in_memory = false;
  const Workspace needed = workspace(parts_.zero, units, settings_.scale_parameter && !all_in_memory);
  memory_ = parts_.device.allocate(MemoryKind::pinned_host, needed.bytes());
  auto* const floats = reinterpret_cast<float*>(memory_.data() + needed.sums * sizeof(double));
  vector_ = {floats, needed.vector};
  parameters_ = {floats + needed.vector, needed.parameters};
}

Adafactor::Workspace Adafactor::workspace(const Zero& zero, const std::vector<plan::UnitRole>& units,
                                          bool collects_parameters) {
  std::vector<std::size_t> sums(units.size(), 0);
  Workspace needed;
  for (const TensorSpec& tensor : zero.map->tensors()) {
    const bool matrix = tensor.shape.rank() == 2;
    sums[static_cast<std::size_t>(tensor.unit)] +=
        static_cast<std::size_t>(tensor.shape[0] + (matrix ? tensor.shape[1] : 0) + 1);
    if (!matrix) needed.vector = std::max(needed.vector, static_cast<std::size_t>(tensor.shape.elements()));
  }
  for (int unit = 0; unit < zero.map->units(); ++unit) {
    if (!units[static_cast<std::size_t>(unit)].trainable) continue;
    needed.sums = std::max(needed.sums, sums[static_cast<std::size_t>(unit)]);
    if (collects_parameters)
      needed.parameters = std::max(needed.parameters, static_cast<std::size_t>(zero.map->shard_elements(unit)));
  }
  return needed;
}

std::size_t Adafactor::workspace_bytes(const Zero& zero, const std::vector<plan::UnitRole>& units,
                                       bool collects_parameters) {
  const Workspace needed = workspace(zero, units, collects_parameters);
  // Of all ranks, one of theirs, and the messages.
  const auto copies = static_cast<std::size_t>(zero.map->ranks()) + 2;
  return needed.bytes() + copies * needed.sums * sizeof(double);
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
  const std::vector<Sums>& of_unit = sums_[static_cast<std::size_t>(unit)];
  // Both are looked at where they rest.
  parts_.state.wait_until_back(*queue_, unit);
  queue_->wait(parts_.gradients.there(unit));
  sum_piece(unit, numbers);
  sum_over_pieces(sums_of_unit_);
  update_factors(unit, numbers);
  std::vector<double> parameter_sums;
  for (const Sums& at : of_unit) parameter_sums.push_back(sums_of_unit_[at.parameter]);
  sum_updates_of_piece(unit, numbers);
  sum_over_pieces(sums_of_unit_);
  for (std::size_t i = 0; i < of_unit.size(); ++i) {
    const auto tensor = static_cast<std::size_t>(of_unit[i].tensor);
    const auto elements = static_cast<double>(parts_.zero.map->tensors()[tensor].shape.elements());
    steps_[tensor] = {.learning_rate = kernels::adafactor_learning_rate(settings_, numbers.learning_rate, numbers.step,
                                                                        std::sqrt(parameter_sums[i] / elements)),
                      .divisor = kernels::adafactor_divisor(settings_, std::sqrt(sums_of_unit_[i] / elements))};
  }
}

/// sums_of_unit_: `count` zeros.
std::span<double> Adafactor::zeroed_sums(std::size_t count) {
  sums_of_unit_ = {reinterpret_cast<double*>(memory_.data()), count};
  std::ranges::fill(sums_of_unit_, 0.0);
  return sums_of_unit_;
}

/// Sums of this rank's piece; zero where it has no part of a tensor.
void Adafactor::sum_piece(int unit, const UpdateNumbers& numbers) {
  const Zero& zero = parts_.zero;
  const Range mine = zero.map->shard(unit, zero.piece());
  const TensorView gradient = parts_.gradients.piece(unit);
  const kernels::ParameterView parameters = parameters_of_piece(unit);
  const std::span<double> sums = zeroed_sums(sums_size_[static_cast<std::size_t>(unit)]);
  const auto view = [&](std::size_t begin, std::int64_t count) {
    return TensorView(sums.subspan(begin, static_cast<std::size_t>(count)), Shape{count});
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
      const std::span<float> values = vector_.first(static_cast<std::size_t>(piece.count));
      parts_.ops.decode_state(
          *queue_, {.state = {.values = TensorView(const_cast<std::byte*>(part.data()), part.dtype(), part.shape()),
                              .scales = {}},
                    .values = TensorView(values, Shape{piece.count})});
      queue_->synchronize();
      std::copy(values.begin(), values.end(), sums.begin() + signed_size(at.rows) + piece.tensor_begin);
    }
    if (settings_.scale_parameter) {
      op.parameter = parameters.flat(piece.range_begin, piece.count);
      op.parameter_sum = view(at.parameter, 1);
    }
    parts_.ops.adafactor_sums(*queue_, op);
  }
  queue_->synchronize();
}

/// Nothing if parameters are not looked at. They are read where they lie, or collected in fp32 from where they do: sums over the
/// same elements in the same order either way.
kernels::ParameterView Adafactor::parameters_of_piece(int unit) {
  if (!settings_.scale_parameter) return {};
  const Range piece = parts_.zero.piece_in_owned(unit);
  if (parts_.state.parameters_in_memory(unit)) return parts_.state.parameter(unit, piece);
  finish();  // nothing may be under way, in the ring either
  const std::span<float> values = parameters_.first(static_cast<std::size_t>(piece.size()));
  parts_.state.read(name_of(StateKind::master), unit, piece, values);
  return {.weight = TensorView(values, Shape{piece.size()}), .master = {}};
}

void Adafactor::sum_over_pieces(std::span<double> sums) {
  const auto all = world_.exchange(std::as_bytes(sums));
  std::ranges::fill(sums, 0.0);
  std::vector<double> part(sums.size());
  for (const std::size_t rank : parts_.zero.rank_of_piece()) {
    if (!part.empty()) std::memcpy(part.data(), all[rank].data(), part.size() * sizeof(double));
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += part[i];
  }
}

void Adafactor::update_factors(int unit, const UpdateNumbers& numbers) {
  const double beta2 = kernels::adafactor_beta2(settings_, numbers.step);
  const std::span<double> sums = sums_of_unit_;
  const auto view = [](auto values, std::size_t begin, std::size_t count) {
    return TensorView(values.subspan(begin, count), Shape{signed_size(count)});
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
      std::ranges::transform(sums.subspan(at.rows, count), vector_.begin(),
                             [](double value) { return static_cast<float>(value); });
      parts_.ops.adafactor_second_moment(
          *queue_, {.gradient = {.values = view(vector_, 0, count), .scale = numbers.gradient_scale},
                    .beta2 = beta2,
                    .eps1 = settings_.eps1,
                    .exp_avg_sq = view(factors.exp_avg_sq, 0, count)});
      queue_->synchronize();  // the next vector takes the same memory
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

/// Σ u² of each tensor of the unit, in this rank's piece.
void Adafactor::sum_updates_of_piece(int unit, const UpdateNumbers& numbers) {
  const Zero& zero = parts_.zero;
  const Range mine = zero.map->shard(unit, zero.piece());
  const TensorView gradient = parts_.gradients.piece(unit);
  const std::vector<Sums>& of_unit = sums_[static_cast<std::size_t>(unit)];
  const std::span<double> sums = zeroed_sums(of_unit.size());
  for (const TensorPiece& piece : zero.map->pieces(unit, mine)) {
    const auto at = std::ranges::find(of_unit, piece.tensor, &Sums::tensor) - of_unit.begin();
    parts_.ops.adafactor_update_sum(
        *queue_,
        {.update = update_of(piece, mine.begin, gradient.flat(piece.range_begin, piece.count), numbers.gradient_scale),
         .sum = TensorView(sums.subspan(static_cast<std::size_t>(at), 1), Shape{1})});
  }
  queue_->synchronize();
}

void Adafactor::update_extent(Queue& queue, const Extent& extent, const StateViews& views,
                              const UpdateNumbers& numbers) {
  const std::int64_t owned = parts_.zero.owned(extent.unit).begin;
  const Range in_unit{owned + extent.range.begin, owned + extent.range.end};
  const TensorView& gradient = views.gradient;
  for (const TensorPiece& piece : parts_.zero.map->pieces(extent.unit, in_unit)) {
    const Step& step = steps_[static_cast<std::size_t>(piece.tensor)];
    parts_.ops.adafactor_step(
        queue, {.update = update_of(piece, in_unit.begin, gradient.flat(piece.range_begin, piece.count),
                                    numbers.gradient_scale),
                .parameter = views.parameter.flat(piece.range_begin, piece.count),
                .learning_rate = step.learning_rate,
                .divisor = step.divisor,
                .weight_decay = layout_.traits()[static_cast<std::size_t>(piece.tensor)].decay ? weight_decay_ : 0.0});
  }
}

}  // namespace spillway::train
