// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "core/tensor_view.hpp"

namespace spillway::model {

/// Where the model gets its weights and leaves their gradients. `train` implements it for every ZeRO stage and tier.
class ParameterSource {
 public:
  virtual ~ParameterSource() = default;
  /// Starts to gather a unit's weights if they are not whole here and a place for them is free; returns at once.
  virtual void prefetch(int unit) = 0;
  /// Blocks until the unit's weights are whole; they stay so until release(unit). Under ZeRO stage 3 every rank must make the same
  /// calls in the same order.
  virtual void acquire(int unit) = 0;
  virtual void release(int unit) = 0;
  /// The flat weights of a unit that is acquired, shape (elements). The persistent unit (0) always is.
  [[nodiscard]] virtual ConstTensorView weights(int unit) = 0;
  /// The unit's flat gradient of this rank's samples, shape (elements): fp32, added to by the backward pass, but see below.
  [[nodiscard]] virtual TensorView gradient(int unit) = 0;
  /// Whether nothing has been added to the unit's gradient yet and it was not set to zero: if so, and then once only, the caller
  /// overwrites all of the unit's tensors in it instead of adding to them. Who asks before it writes a block's may find the gradient to
  /// be of the weights' dtype.
  [[nodiscard]] virtual bool overwrites_gradient(int /*unit*/) { return false; }
};

/// Where the model keeps what the backward pass needs. `train` implements it out of the arena that the plan sized.
class ResidualStore {
 public:
  virtual ~ResidualStore() = default;
  /// Memory that holds `stage`'s activations of a micro-batch until its backward pass: at least stage_bytes(stage).
  /// \param slot  the micro-batch's number in its group
  [[nodiscard]] virtual std::byte* stage_memory(int stage, int slot) = 0;
};

}  // namespace spillway::model
