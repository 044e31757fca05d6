// SPDX-License-Identifier: Apache-2.0
#include "train/adafactor_state.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

constexpr const char* kRow = "exp_avg_sq_row";
constexpr const char* kColumn = "exp_avg_sq_col";
constexpr const char* kWhole = "exp_avg_sq";

/// What a kind keeps of a tensor; nothing if it is not for such tensors.
std::int64_t elements_of(const std::string& kind, const Shape& shape) {
  const bool matrix = shape.rank() == 2;
  if (kind == kWhole) return matrix ? 0 : shape.elements();
  return matrix ? shape[kind == kRow ? 0 : 1] : 0;
}

}  // namespace

AdafactorState::AdafactorState(const ShardMap& map, const std::vector<plan::UnitRole>& units)
    : factors_(map.tensors().size()) {
  for (const char* name : {kRow, kColumn, kWhole}) {
    Kind kind{.name = name, .tensors = {}, .map = nullptr, .values = {}};
    std::vector<TensorSpec> specs;
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < map.tensors().size(); ++i) {
      const TensorSpec& tensor = map.tensors()[i];
      const std::int64_t elements = elements_of(name, tensor.shape);
      if (elements == 0 || !units[static_cast<std::size_t>(tensor.unit)].trainable) continue;
      kind.tensors.push_back(static_cast<int>(i));
      specs.push_back({.name = tensor.name, .shape = {elements}, .unit = 0, .offset = offset});
      offset = round_up(offset + elements, kShardAlignment);
    }
    if (specs.empty()) continue;
    kind.map = std::make_unique<ShardMap>(std::move(specs), map.ranks());
    kind.elements = kind.map->unit_elements(0);
    kinds_.push_back(std::move(kind));
  }
}

std::size_t AdafactorState::mean_bytes() const {
  std::int64_t elements = 0;
  for (const Kind& kind : kinds_) elements += kind.elements;
  return static_cast<std::size_t>(elements) * sizeof(float);
}

std::size_t AdafactorState::factor_bytes() const {
  std::int64_t elements = 0;
  for (const Kind& kind : kinds_) elements += kind.name == kWhole ? 0 : kind.elements;
  return static_cast<std::size_t>(elements) * sizeof(float);
}

void AdafactorState::bind(std::span<std::byte> means, std::span<std::byte> step_factors) {
  if (means.size() < mean_bytes() || step_factors.size() < factor_bytes())
    throw Error(fmt::format("Adafactor's state: expected {} and {} bytes, found {} and {}", mean_bytes(),
                            factor_bytes(), means.size(), step_factors.size()));
  const auto take = [](std::span<std::byte>& memory, std::int64_t elements) {
    const auto count = static_cast<std::size_t>(elements);
    const std::span<float> taken(reinterpret_cast<float*>(memory.data()), count);
    memory = memory.subspan(count * sizeof(float));
    return taken;
  };
  for (Kind& kind : kinds_) {
    kind.values = take(means, kind.elements);
    const std::span<float> factors = kind.name == kWhole ? std::span<float>{} : take(step_factors, kind.elements);
    for (std::size_t i = 0; i < kind.tensors.size(); ++i) {
      const TensorSpec& spec = kind.map->tensors()[i];
      const auto begin = static_cast<std::size_t>(spec.offset);
      const auto count = static_cast<std::size_t>(spec.shape.elements());
      Factors& of = factors_[static_cast<std::size_t>(kind.tensors[i])];
      const std::span<float> values = kind.values.subspan(begin, count);
      if (kind.name == kWhole) of.exp_avg_sq = values;
      else (kind.name == kRow ? of.exp_avg_sq_row : of.exp_avg_sq_col) = values;
      if (!factors.empty()) (kind.name == kRow ? of.row_factors : of.column_factors) = factors.subspan(begin, count);
    }
  }
}

std::vector<std::string> AdafactorState::kinds() const {
  std::vector<std::string> names;
  for (const Kind& kind : kinds_) names.push_back(kind.name);
  return names;
}

const AdafactorState::Kind& AdafactorState::kind_of(const std::string& name) const {
  const auto found = std::find_if(kinds_.begin(), kinds_.end(), [&](const Kind& kind) { return kind.name == name; });
  if (found == kinds_.end()) throw Error(fmt::format("Adafactor has no state of kind {}", name));
  return *found;
}

}  // namespace spillway::train
