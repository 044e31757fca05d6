// SPDX-License-Identifier: Apache-2.0
#include "train/adafactor.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

std::int64_t signed_size(std::size_t size) { return static_cast<std::int64_t>(size); }

template <typename T>
TensorView view(std::span<T> values) {
  return TensorView(values, Shape{signed_size(values.size())});
}
template <typename T>
TensorView view(std::span<T> values, std::size_t begin, std::size_t count) {
  return view(values.subspan(begin, count));
}

}  // namespace

Adafactor::Adafactor(const OptimizerParts& parts, const model::T5Layout& layout, kernels::AdafactorSettings settings,
                     double weight_decay, AdafactorState& state, std::span<std::byte> device_sums,
                     comm::Communicator& world, const std::vector<plan::UnitRole>& units)
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
  std::vector<std::size_t> vectors(sums_.size(), 0);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto unit = static_cast<std::size_t>(tensors[i].unit);
    std::size_t& size = sums_size_[unit];
    Sums sums{.tensor = static_cast<int>(i), .rows = size, .vector = vectors[unit]};
    size += static_cast<std::size_t>(tensors[i].shape[0]);
    sums.columns = size;
    if (is_matrix(sums.tensor)) size += static_cast<std::size_t>(tensors[i].shape[1]);
    else vectors[unit] += static_cast<std::size_t>(tensors[i].shape.elements());
    sums.parameter = size++;
    sums_[unit].push_back(sums);
  }
  bool all_in_memory = true;
  for (int unit = 0; unit < parts_.zero.map->units(); ++unit)
    if (units[static_cast<std::size_t>(unit)].trainable && !parts_.state.parameters_in_memory(unit))
      all_in_memory = false;
  const Workspace needed = workspace(parts_.zero, units, settings_.scale_parameter && !all_in_memory);
  if (device_sums.size() < needed.sum_bytes())
    throw Error(fmt::format("Adafactor's sums: expected {} bytes, found {}", needed.sum_bytes(), device_sums.size()));
  memory_ = parts_.device.allocate(MemoryKind::pinned_host, needed.bytes());
  auto* const on_host = reinterpret_cast<double*>(memory_.data());
  auto* const on_device = reinterpret_cast<double*>(device_sums.data());
  sum_memory_ = {.host = {on_host, needed.sums}, .device = {on_device, needed.sums}};
  update_sum_memory_ = {.host = {on_host + needed.sums, needed.tensors},
                        .device = {on_device + needed.sums, needed.tensors}};
  auto* const floats = reinterpret_cast<float*>(memory_.data() + needed.sum_bytes());
  vectors_ = {floats, needed.vectors};
  parameters_ = {floats + needed.vectors, needed.parameters};
}

Adafactor::Workspace Adafactor::workspace(const Zero& zero, const std::vector<plan::UnitRole>& units,
                                          bool collects_parameters) {
  std::vector<Workspace> of_units(units.size());
  for (const TensorSpec& tensor : zero.map->tensors()) {
    const bool matrix = tensor.shape.rank() == 2;
    Workspace& of_unit = of_units[static_cast<std::size_t>(tensor.unit)];
    of_unit.sums += static_cast<std::size_t>(tensor.shape[0] + (matrix ? tensor.shape[1] : 0) + 1);
    of_unit.tensors += 1;
    if (!matrix) of_unit.vectors += static_cast<std::size_t>(tensor.shape.elements());
  }
  Workspace needed;
  for (int unit = 0; unit < zero.map->units(); ++unit) {
    if (!units[static_cast<std::size_t>(unit)].trainable) continue;
    const Workspace& of_unit = of_units[static_cast<std::size_t>(unit)];
    needed.sums = std::max(needed.sums, of_unit.sums);
    needed.tensors = std::max(needed.tensors, of_unit.tensors);
    needed.vectors = std::max(needed.vectors, of_unit.vectors);
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

std::size_t Adafactor::sum_bytes(const Zero& zero, const std::vector<plan::UnitRole>& units) {
  return workspace(zero, units, false).sum_bytes();
}

bool Adafactor::is_matrix(int tensor) const {
  return parts_.zero.map->tensors()[static_cast<std::size_t>(tensor)].shape.rank() == 2;
}

kernels::MatrixPiece Adafactor::matrix_piece(const TensorPiece& piece) const {
  const Shape& shape = parts_.zero.map->tensors()[static_cast<std::size_t>(piece.tensor)].shape;
  return {.rows = is_matrix(piece.tensor) ? shape[0] : 1,
          .columns = is_matrix(piece.tensor) ? shape[1] : shape.elements(),
          .tensor_begin = piece.tensor_begin,
          .count = piece.count};
}

void Adafactor::prepare(int unit, const UpdateNumbers& numbers) {
  const std::vector<Sums>& of_unit = sums_[static_cast<std::size_t>(unit)];
  const std::size_t size = sums_size_[static_cast<std::size_t>(unit)];
  const SumMemory sums{sum_memory_.host.first(size), sum_memory_.device.first(size)};
  const SumMemory update_sums{update_sum_memory_.host.first(of_unit.size()),
                              update_sum_memory_.device.first(of_unit.size())};
  // Both are looked at where they rest.
  parts_.state.wait_until_back(*queue_, unit);
  queue_->wait(parts_.gradients.there(unit));
  sum_piece(unit, sums, numbers);
  sum_over_pieces(sums.host);
  update_factors(unit, sums, numbers);
  sum_updates_of_piece(unit, update_sums, numbers);
  sum_over_pieces(update_sums.host);
  for (std::size_t i = 0; i < of_unit.size(); ++i) {
    const auto tensor = static_cast<std::size_t>(of_unit[i].tensor);
    const auto elements = static_cast<double>(parts_.zero.map->tensors()[tensor].shape.elements());
    const auto rms = [&](double sum) { return std::sqrt(sum / elements); };
    steps_[tensor] = {.learning_rate = kernels::adafactor_learning_rate(settings_, numbers.learning_rate, numbers.step,
                                                                        rms(sums.host[of_unit[i].parameter])),
                      .divisor = kernels::adafactor_divisor(settings_, rms(update_sums.host[i]))};
  }
}

/// Zeros on both sides, which the ops add to.
void Adafactor::clear(const SumMemory& sums) {
  std::ranges::fill(sums.host, 0.0);
  copy(sums.host, sums.device);
}

void Adafactor::copy(std::span<double> from, std::span<double> to) {
  parts_.device.copy_little(*queue_, reinterpret_cast<std::byte*>(to.data()),
                            reinterpret_cast<const std::byte*>(from.data()), from.size_bytes());
}

/// Sums of this rank's piece; zero where it has no part of a tensor.
void Adafactor::sum_piece(int unit, const SumMemory& sums, const UpdateNumbers& numbers) {
  const Zero& zero = parts_.zero;
  const Range mine = zero.map->shard(unit, zero.piece());
  const TensorView gradient = parts_.gradients.piece(unit);
  const kernels::ParameterView parameters = parameters_of_piece(unit);
  const std::vector<Sums>& of_unit = sums_[static_cast<std::size_t>(unit)];
  const std::vector<TensorPiece> pieces = zero.map->pieces(unit, mine);
  const auto place_of = [&](const TensorPiece& piece) -> const Sums& {
    return *std::ranges::find(of_unit, piece.tensor, &Sums::tensor);
  };
  const auto values_of = [&](const TensorPiece& piece) {
    return vectors_.subspan(place_of(piece).vector, static_cast<std::size_t>(piece.count));
  };
  clear(sums);
  for (const TensorPiece& piece : pieces) {
    const Sums& at = place_of(piece);
    const ConstTensorView part = gradient.flat(piece.range_begin, piece.count);
    kernels::AdafactorSums op{.piece = matrix_piece(piece),
                              .gradient = {.values = part, .scale = numbers.gradient_scale},
                              .eps1 = settings_.eps1,
                              .row_sums = {},
                              .column_sums = {},
                              .parameter = {},
                              .parameter_sum = {}};
    if (is_matrix(piece.tensor)) {
      op.row_sums = view(sums.device, at.rows + static_cast<std::size_t>(op.piece.first_row()),
                         static_cast<std::size_t>(op.piece.touched_rows()));
      op.column_sums = view(sums.device, at.columns, static_cast<std::size_t>(op.piece.columns));
    } else {
      parts_.ops.decode_state(
          *queue_, {.state = {.values = TensorView(const_cast<std::byte*>(part.data()), part.dtype(), part.shape()),
                              .scales = {}},
                    .values = TensorView(values_of(piece), Shape{piece.count})});
    }
    if (settings_.scale_parameter) {
      op.parameter = parameters.flat(piece.range_begin, piece.count);
      op.parameter_sum = view(sums.device, at.parameter, 1);
    }
    parts_.ops.adafactor_sums(*queue_, op);
  }
  copy(sums.device, sums.host);
  queue_->synchronize();
  // A vector is not summed over anything: all ranks get its gradient, exactly.
  for (const TensorPiece& piece : pieces)
    if (!is_matrix(piece.tensor))
      std::ranges::copy(values_of(piece), sums.host.begin() + signed_size(place_of(piece).rows) + piece.tensor_begin);
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

/// From the sums over all pieces. The host's must stay as they are until the queue is done.
void Adafactor::update_factors(int unit, const SumMemory& sums, const UpdateNumbers& numbers) {
  const double beta2 = kernels::adafactor_beta2(settings_, numbers.step);
  copy(sums.host, sums.device);
  for (const Sums& at : sums_[static_cast<std::size_t>(unit)]) {
    const AdafactorState::Factors& factors = state_.factors(at.tensor);
    if (is_matrix(at.tensor)) {
      const std::size_t rows = factors.exp_avg_sq_row.size(), columns = factors.exp_avg_sq_col.size();
      parts_.ops.adafactor_factors(*queue_, {.row_sums = view(sums.device, at.rows, rows),
                                             .column_sums = view(sums.device, at.columns, columns),
                                             .beta2 = beta2,
                                             .exp_avg_sq_row = view(factors.exp_avg_sq_row),
                                             .exp_avg_sq_col = view(factors.exp_avg_sq_col),
                                             .row_factors = view(factors.row_factors),
                                             .column_factors = view(factors.column_factors)});
    } else {
      const std::size_t count = factors.exp_avg_sq.size();
      const std::span<float> gradient = vectors_.subspan(at.vector, count);
      std::ranges::transform(sums.host.subspan(at.rows, count), gradient.begin(),
                             [](double value) { return static_cast<float>(value); });
      parts_.ops.adafactor_second_moment(*queue_,
                                         {.gradient = {.values = view(gradient), .scale = numbers.gradient_scale},
                                          .beta2 = beta2,
                                          .eps1 = settings_.eps1,
                                          .exp_avg_sq = view(factors.exp_avg_sq)});
    }
  }
}

kernels::AdafactorUpdate Adafactor::update_of(const TensorPiece& piece, ConstTensorView gradient,
                                              float gradient_scale) const {
  const AdafactorState::Factors& factors = state_.factors(piece.tensor);
  kernels::AdafactorUpdate update{.piece = matrix_piece(piece),
                                  .gradient = {.values = gradient, .scale = gradient_scale},
                                  .row_factors = {},
                                  .column_factors = {},
                                  .exp_avg_sq = {}};
  if (is_matrix(piece.tensor)) {
    update.row_factors = view(factors.row_factors);
    update.column_factors = view(factors.column_factors);
  } else {
    update.exp_avg_sq =
        view(factors.exp_avg_sq, static_cast<std::size_t>(piece.tensor_begin), static_cast<std::size_t>(piece.count));
  }
  return update;
}

/// Σ u² of each tensor of the unit, in this rank's piece.
void Adafactor::sum_updates_of_piece(int unit, const SumMemory& sums, const UpdateNumbers& numbers) {
  const Zero& zero = parts_.zero;
  const Range mine = zero.map->shard(unit, zero.piece());
  const TensorView gradient = parts_.gradients.piece(unit);
  const std::vector<Sums>& of_unit = sums_[static_cast<std::size_t>(unit)];
  clear(sums);
  for (const TensorPiece& piece : zero.map->pieces(unit, mine)) {
    const auto at = std::ranges::find(of_unit, piece.tensor, &Sums::tensor) - of_unit.begin();
    parts_.ops.adafactor_update_sum(
        *queue_, {.update = update_of(piece, gradient.flat(piece.range_begin, piece.count), numbers.gradient_scale),
                  .sum = view(sums.device, static_cast<std::size_t>(at), 1)});
  }
  copy(sums.device, sums.host);
  queue_->synchronize();
}

void Adafactor::update_extent(const ExtentUpdate& update, const UpdateNumbers& numbers) {
  const Extent& extent = update.extent;
  const std::int64_t owned = parts_.zero.owned(extent.unit).begin;
  const Range in_unit{owned + extent.range.begin, owned + extent.range.end};
  for (const TensorPiece& piece : parts_.zero.map->pieces(extent.unit, in_unit)) {
    const Step& step = steps_[static_cast<std::size_t>(piece.tensor)];
    update.ops.adafactor_step(
        update.queue,
        {.update = update_of(piece, update.views.gradient.flat(piece.range_begin, piece.count), numbers.gradient_scale),
         .parameter = update.views.parameter.flat(piece.range_begin, piece.count),
         .learning_rate = step.learning_rate,
         .divisor = step.divisor,
         .weight_decay = layout_.traits()[static_cast<std::size_t>(piece.tensor)].decay ? weight_decay_ : 0.0});
  }
}

}  // namespace spillway::train
