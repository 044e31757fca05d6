// SPDX-License-Identifier: Apache-2.0
#include "train/state_layout.hpp"

namespace spillway::train {
namespace {

DType dtype_of_values(StorageFormat format) {
  switch (format) {
    case StorageFormat::bf16: return DType::bf16;
    case StorageFormat::fp16: return DType::f16;
    case StorageFormat::remainder: return DType::i16;
    case StorageFormat::int8: return DType::u8;
    case StorageFormat::none:
    case StorageFormat::fp32: break;
  }
  return DType::f32;
}

}  // namespace

const char* name_of(StateKind kind) noexcept {
  constexpr std::array<const char*, kStateKinds> names = {"weight", "master", "exp_avg", "exp_avg_sq"};
  return names[static_cast<std::size_t>(kind)];
}

kernels::StateSign sign_of(StateKind kind) noexcept {
  return kind == StateKind::exp_avg_sq ? kernels::StateSign::nonnegative : kernels::StateSign::either;
}

StateLayout::StateLayout(std::vector<plan::UnitRole> units, Formats formats)
    : units_(std::move(units)), formats_(formats) {}

StorageFormat StateLayout::format(StateKind kind, int unit) const {
  const plan::UnitRole& role = units_[static_cast<std::size_t>(unit)];
  const DType weight = formats_.weight;
  if (kind == StateKind::weight)
    return weight == DType::bf16  ? StorageFormat::bf16
           : weight == DType::f16 ? StorageFormat::fp16
                                  : StorageFormat::fp32;
  if (!role.trainable) return StorageFormat::none;
  if (kind == StateKind::master)
    return weight == DType::bf16  ? StorageFormat::remainder
           : weight == DType::f16 ? StorageFormat::fp32
                                  : StorageFormat::none;
  if (!formats_.moments) return StorageFormat::none;
  return role.persistent ? StorageFormat::fp32 : formats_.moment;
}

std::size_t StateLayout::bytes(StateKind kind, int unit, std::int64_t elements) const {
  const StorageFormat as = format(kind, unit);
  if (as == StorageFormat::none) return 0;
  const std::size_t scales =
      as == StorageFormat::int8 ? static_cast<std::size_t>(kernels::state_scales(elements)) * sizeof(float) : 0;
  return static_cast<std::size_t>(elements) * size_of(dtype_of_values(as)) + scales;
}

kernels::StateView StateLayout::view(StateKind kind, int unit, std::span<std::byte> memory, std::int64_t elements,
                                     Range part) const {
  const StorageFormat as = format(kind, unit);
  if (as == StorageFormat::none) return {};
  kernels::StateView whole{.values = {memory.data(), dtype_of_values(as), {elements}}, .scales = {}};
  if (as == StorageFormat::int8)
    whole.scales = {memory.data() + whole.values.bytes(), DType::f32, {kernels::state_scales(elements)}};
  return whole.flat(part.begin, part.size());
}

}  // namespace spillway::train
