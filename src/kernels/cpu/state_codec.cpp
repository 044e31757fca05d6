// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/state_codec.hpp"

#include <cstring>

#include "kernels/cpu/rows.hpp"
#include "kernels/cpu/state_format.hpp"
#include "kernels/exact_master.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr std::int64_t kBlock = 16384;
static_assert(kBlock % kTile == 0);

[[gnu::always_inline]] inline void copy_floats(const float* from, float* to, std::int64_t count) {
  if (from != to) std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
}

/// In 16 bits, of a parameter that nobody trains.
bool is_weight_alone(const ParameterView& parameter) {
  return parameter.weight.dtype() != DType::f32 && !parameter.master;
}

[[gnu::always_inline]] inline void decode_parameter_tile(const DecodeParameter& op, std::int64_t begin,
                                                         std::int64_t count) {
  float* to = floats(op.values) + begin;
  if (!is_weight_alone(op.parameter)) return copy_floats(read_tile(op.parameter, begin, count, to), to, count);
  if (op.parameter.weight.dtype() == DType::f16) {
    return widen_f16(reinterpret_cast<const std::uint16_t*>(op.parameter.weight.data()) + begin, to, count);
  }
  const std::span<const BFloat16> weight = op.parameter.weight.as<BFloat16>();
  for (std::int64_t i = 0; i < count; ++i) to[i] = join({weight[static_cast<std::size_t>(begin + i)].bits, 0});
}

[[gnu::always_inline]] inline void encode_parameter_tile(const EncodeParameter& op, std::int64_t begin,
                                                         std::int64_t count) {
  const float* from = floats(op.values) + begin;
  if (op.parameter.master) {
    if (op.parameter.master.dtype() == DType::f32) copy_floats(from, floats(op.parameter.master) + begin, count);
    return write_tile(op.parameter, begin, count, from);
  }
  if (!is_weight_alone(op.parameter)) return copy_floats(from, floats(op.parameter.weight) + begin, count);
  if (op.parameter.weight.dtype() == DType::f16) {
    auto* halves = reinterpret_cast<std::uint16_t*>(op.parameter.weight.data()) + begin;
    for (std::int64_t i = 0; i < count; ++i) halves[i] = rounded_f16(from[i]);
    return;
  }
  const std::span<BFloat16> weight = op.parameter.weight.as<BFloat16>();
  for (std::int64_t i = 0; i < count; ++i) weight[static_cast<std::size_t>(begin + i)] = {split(from[i]).weight};
}

[[gnu::always_inline]] inline void decode_state_tile(const DecodeState& op, std::int64_t begin, std::int64_t count) {
  const DynamicCodes& codes = dynamic_codes(op.sign);
  float* to = floats(op.values) + begin;
  copy_floats(read_tile(op.state, codes, begin, count, to), to, count);
}

[[gnu::always_inline]] inline void encode_state_tile(const EncodeState& op, std::int64_t begin, std::int64_t count) {
  const DynamicCodes& codes = dynamic_codes(op.sign);
  const float* from = floats(op.values) + begin;
  if (op.state.values.dtype() == DType::f32) copy_floats(from, floats(op.state.values) + begin, count);
  else write_tile(op.state, codes, begin, count, from, op.rounding);
}

template <auto Body, typename Op>
void in_tiles(ThreadPool& pool, const Op& op, std::int64_t elements, InstructionSet set) {
  parallel_blocks(pool, elements, kBlock, [&](std::int64_t begin, std::int64_t end) {
    for (; begin < end; begin += kTile) vectorised_for<Body>(set, op, begin, std::min(kTile, end - begin));
  });
}

}  // namespace

void decode_parameter(ThreadPool& pool, const DecodeParameter& op, InstructionSet set) {
  in_tiles<decode_parameter_tile>(pool, op, op.values.elements(), set);
}
void encode_parameter(ThreadPool& pool, const EncodeParameter& op, InstructionSet set) {
  in_tiles<encode_parameter_tile>(pool, op, op.values.elements(), set);
}
void decode_state(ThreadPool& pool, const DecodeState& op, InstructionSet set) {
  in_tiles<decode_state_tile>(pool, op, op.values.elements(), set);
}
void encode_state(ThreadPool& pool, const EncodeState& op, InstructionSet set) {
  in_tiles<encode_state_tile>(pool, op, op.values.elements(), set);
}

}  // namespace spillway::kernels::cpu
