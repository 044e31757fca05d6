// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/tensor_view.hpp"

namespace spillway::kernels {

/// n fp32 parameters, in one of three forms:
/// - weight f32 (n), master not given;
/// - weight bf16 (n) and master i16 (n): exact fp32 in 2 + 2 bytes (exact_master.hpp). Finite values only;
/// - weight f16 (n) and master f32 (n): the master is the parameter, the weight the master rounded to nearest even.
struct ParameterView {
  TensorView weight;
  TensorView master;

  [[nodiscard]] std::int64_t elements() const noexcept { return weight.elements(); }
  [[nodiscard]] ParameterView flat(std::int64_t begin, std::int64_t count) const {
    return {weight.flat(begin, count), master ? master.flat(begin, count) : TensorView{}};
  }
};

/// Elements that share one scale in the int8 state format.
inline constexpr std::int64_t kStateBlock = 256;

/// Scales of n elements in the int8 state format.
[[nodiscard]] constexpr std::int64_t state_scales(std::int64_t elements) noexcept {
  return (elements + kStateBlock - 1) / kStateBlock;
}

/// n elements of an optimizer state, in one of three formats:
/// - f32 (n);
/// - bf16 (n), rounded stochastically;
/// - u8 codes (n) with f32 scales (state_scales(n)), "int8": element i is dynamic_map[code[i]] · scale[i / 256] (dynamic_map.hpp),
///   the scale being the block's number of the largest magnitude.
struct StateView {
  TensorView values;
  TensorView scales;

  [[nodiscard]] std::int64_t elements() const noexcept { return values.elements(); }
  /// \param begin  a multiple of kStateBlock if there are scales
  [[nodiscard]] StateView flat(std::int64_t begin, std::int64_t count) const {
    return {values.flat(begin, count), scales ? scales.flat(begin / kStateBlock, state_scales(count)) : TensorView{}};
  }
};

/// Which of the two dynamic maps an int8 state is coded with; f32 and bf16 do not need to know.
enum class StateSign {
  either,       // exp_avg
  nonnegative,  // exp_avg_sq
};

/// Rounding of f32 to bf16 that keeps the mean: (bits + draw) >> 16. The unit's element 128 G + 16 l + j (l < 8, j < 16) uses lane l,
/// bits 16 (l % 2) to 16 (l % 2) + 15 of word l / 2, of Philox(key, {low word of 16 G + j, high word of it, site, 0x53520000}):
/// the same wherever and by whomever it is done. Finite values only.
struct StochasticRounding {
  std::uint64_t key = 0;   // mix_key(seed, step)
  std::uint32_t site = 0;  // unit and kind of state
  std::int64_t first = 0;  // index in the unit of the first element; a multiple of kStateBlock for int8
};

/// values = the parameters in f32 (n). A weight of 16 bits without a master, of a frozen parameter, is a form here too.
struct DecodeParameter {
  ParameterView parameter;
  TensorView values;
};

/// The parameters = values, f32 (n), exactly; a weight of 16 bits without a master is rounded as one with a master is.
struct EncodeParameter {
  ConstTensorView values;
  ParameterView parameter;
};

/// values = the state in f32 (n).
struct DecodeState {
  StateView state;
  TensorView values;
  StateSign sign = StateSign::either;
};

/// The state = values, f32 (n), rounded to the state's format.
struct EncodeState {
  ConstTensorView values;
  StateView state;
  StateSign sign = StateSign::either;
  StochasticRounding rounding;  // for bf16
};

}  // namespace spillway::kernels
