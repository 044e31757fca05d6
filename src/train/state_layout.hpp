// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/device.hpp"
#include "core/shard_map.hpp"
#include "kernels/optimizer_state.hpp"
#include "plan/step_program.hpp"

namespace spillway::train {

/// What is kept of every parameter between steps.
enum class StateKind : std::size_t { weight, master, exp_avg, exp_avg_sq };
inline constexpr std::size_t kStateKinds = 4;
inline constexpr std::array<StateKind, kStateKinds> kAllStateKinds = {StateKind::weight, StateKind::master,
                                                                      StateKind::exp_avg, StateKind::exp_avg_sq};
[[nodiscard]] const char* name_of(StateKind kind) noexcept;

/// Of a moment: exp_avg_sq has no negative numbers.
[[nodiscard]] kernels::StateSign sign_of(StateKind kind) noexcept;

/// How a kind of a unit's elements is stored.
enum class StorageFormat { none, fp32, bf16, fp16, remainder, int8 };

/// The parts of one run of elements, as the optimizer ops take them.
struct StateViews {
  kernels::ParameterView parameter;
  kernels::StateView exp_avg, exp_avg_sq;
  TensorView gradient;  // where the update reads it
};

/// The gradient of some elements, at rest.
struct GradientAtRest {
  TensorView values;
  Event there;  // when it is: of host memory beside a GPU
};

/// Format and bytes of every kind of state of every unit. Pure arithmetic.
/// - fp32: the weight is the master; bf16: the weight in bf16, the master in the two bytes that make it exact (design: 2 + 2 bytes);
///   fp16: the weight in fp16, the master in fp32.
/// - Frozen units have a weight and nothing else.
/// - Moments in bf16 or int8 are so in every unit but the persistent ones: embeddings, biases and norms stay fp32.
/// An int8 run of n elements is its n codes, then its scales.
class StateLayout {
 public:
  struct Formats {
    DType weight = DType::f32;  // or bf16, f16
    bool moments = true;        // exp_avg and exp_avg_sq exist (AdamW in training)
    StorageFormat moment = StorageFormat::fp32;
  };
  StateLayout(std::vector<plan::UnitRole> units, Formats formats);

  [[nodiscard]] int units() const noexcept { return static_cast<int>(units_.size()); }
  [[nodiscard]] bool trainable(int unit) const { return units_[static_cast<std::size_t>(unit)].trainable; }
  [[nodiscard]] DType weight_dtype() const noexcept { return formats_.weight; }
  [[nodiscard]] StorageFormat format(StateKind kind, int unit) const;
  /// Of a run of `elements`, a multiple of kernels::kStateBlock.
  [[nodiscard]] std::size_t bytes(StateKind kind, int unit, std::int64_t elements) const;
  /// Part of a run that lies in `memory`. \param elements  of the whole run; \param part  in it, from a multiple of kStateBlock
  [[nodiscard]] kernels::StateView view(StateKind kind, int unit, std::span<std::byte> memory, std::int64_t elements,
                                        Range part) const;

 private:
  std::vector<plan::UnitRole> units_;
  Formats formats_;
};

}  // namespace spillway::train
