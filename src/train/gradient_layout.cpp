// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "plan/plan.hpp"
#include "train/gradients.hpp"

namespace spillway::train {

bool GradientLayout::filled(int unit) const {
  std::int64_t used = 0;
  for (const TensorSpec& tensor : zero->map->tensors())
    if (tensor.unit == unit) used += tensor.shape.elements();
  return used == zero->map->unit_elements(unit);
}

bool GradientLayout::in_place(int unit) const {
  const bool once = zero->map->ranks() == 1 && micro_batches == 1 && units[static_cast<std::size_t>(unit)].written_once;
  return once && reduce == grad && trainable(unit) && filled(unit);
}

std::int64_t GradientLayout::largest_unit() const {
  std::int64_t largest = 0;
  for (int unit = 0; unit < zero->map->units(); ++unit)
    if (trainable(unit) && !persistent(unit) && !in_place(unit))
      largest = std::max(largest, zero->map->unit_elements(unit));
  return largest;
}

std::int64_t GradientLayout::buffer_elements() const {
  std::int64_t elements = plan::kGradientSlots * largest_unit();
  for (int unit = 0; unit < zero->map->units(); ++unit)
    if (trainable(unit) && persistent(unit)) elements += zero->map->unit_elements(unit);
  return elements;
}

std::size_t GradientLayout::buffer_bytes() const {
  const std::size_t wire = reduce == DType::f32 ? 0 : size_of(reduce);
  return static_cast<std::size_t>(buffer_elements()) * (sizeof(float) + wire);
}

std::int64_t GradientLayout::grad_elements() const {
  std::int64_t elements = 0;
  for (int unit = 0; unit < zero->map->units(); ++unit)
    if (trainable(unit)) elements += zero->owned(unit).size();
  return elements;
}

std::int64_t GradientLayout::partial_elements(bool several_groups) const {
  const bool rounds_after_the_sum = grad != DType::f32 && grad != reduce;
  return several_groups || rounds_after_the_sum ? buffer_elements() / zero->map->ranks() : 0;
}

std::int64_t GradientLayout::sum_elements(bool several_groups) const {
  if (!several_groups || grad == DType::f32) return 0;
  std::int64_t elements = 0;
  for (int unit = 0; unit < zero->map->units(); ++unit)
    if (trainable(unit) && !persistent(unit)) elements += zero->map->shard_elements(unit);
  return elements;
}

}  // namespace spillway::train
