// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "core/philox.hpp"
#include "kernels/cpu/instruction_set.hpp"
#include "kernels/optimizer_ops.hpp"

namespace spillway::kernels::test {

/// Every instruction set that this processor has, the plainest first.
inline std::vector<cpu::InstructionSet> instruction_sets() {
  std::vector<cpu::InstructionSet> sets;
  for (const auto set : {cpu::InstructionSet::baseline, cpu::InstructionSet::avx2, cpu::InstructionSet::avx512})
    if (supported(set)) sets.push_back(set);
  return sets;
}

/// Standard normal numbers from a stream of their own.
inline std::vector<float> normals(std::size_t count, std::uint64_t stream) {
  std::vector<float> values(count);
  PhiloxStream draws(11, stream);
  for (float& value : values) value = draws.normal();
  return values;
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

inline ConstTensorView flat(const std::vector<float>& values) {
  return {std::span<const float>(values), {static_cast<std::int64_t>(values.size())}};
}
inline TensorView flat(std::vector<float>& values) {
  return {std::span<float>(values), {static_cast<std::int64_t>(values.size())}};
}
inline TensorView flat(std::vector<double>& values) {
  return {std::span<double>(values), {static_cast<std::int64_t>(values.size())}};
}
inline TensorView bf16(std::vector<std::uint16_t>& values) {
  return {reinterpret_cast<std::byte*>(values.data()), DType::bf16, {static_cast<std::int64_t>(values.size())}};
}

/// n parameters in 2 + 2 bytes that own their memory.
struct SplitParameter {
  explicit SplitParameter(std::size_t count) : weight(count), master(count) {}
  ParameterView view() { return {bf16(weight), {std::span<std::int16_t>(master), Shape{count()}}}; }
  [[nodiscard]] std::int64_t count() const { return static_cast<std::int64_t>(weight.size()); }

  std::vector<std::uint16_t> weight;
  std::vector<std::int16_t> master;
};

inline TensorView f16(std::vector<std::uint16_t>& values) {
  return {reinterpret_cast<std::byte*>(values.data()), DType::f16, {static_cast<std::int64_t>(values.size())}};
}

/// n parameters in f16 with their f32 master that own their memory.
struct HalfParameter {
  explicit HalfParameter(std::size_t count) : weight(count), master(count) {}
  ParameterView view() { return {f16(weight), flat(master)}; }

  std::vector<std::uint16_t> weight;
  std::vector<float> master;
};

/// n elements of an optimizer state in any format, zero, that own their memory.
struct State {
  State(DType format, std::size_t count)
      : dtype(format), bytes(count * size_of(format)), elements(static_cast<std::int64_t>(count)) {
    if (format == DType::u8) scales.resize(static_cast<std::size_t>(state_scales(elements)));
  }
  StateView view() {
    StateView state{{bytes.data(), dtype, {elements}}, {}};
    if (!scales.empty()) state.scales = flat(scales);
    return state;
  }
  [[nodiscard]] bool same_as(const State& other) const {
    return same_bits(bytes, other.bytes) && same_bits(scales, other.scales);
  }

  DType dtype;
  std::vector<std::byte> bytes;
  std::vector<float> scales;
  std::int64_t elements;
};

}  // namespace spillway::kernels::test
