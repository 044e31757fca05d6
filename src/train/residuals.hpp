// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "model/ports.hpp"
#include "model/stages.hpp"
#include "train/residual_ring.hpp"

namespace spillway::train {

/// Residuals of a training step: every stage of every micro-batch of a group has a place of its own, but for those that pass through a
/// ring.
class TrainingResiduals : public model::ResidualStore {
 public:
  /// \param stage_bytes  of each stage of one micro-batch, but for those that pass
  /// \param memory       group size times their sum
  /// \param ring         null: none pass; outlives this object
  TrainingResiduals(std::vector<std::size_t> stage_bytes, std::byte* memory, const ResidualRing* ring = nullptr);
  [[nodiscard]] std::byte* stage_memory(int stage, int slot) override;
  /// Bytes of one micro-batch.
  [[nodiscard]] static std::size_t bytes(const std::vector<std::size_t>& stage_bytes);

 private:
  std::vector<std::size_t> offsets_;
  std::size_t slot_bytes_;
  std::byte* memory_;
  const ResidualRing* ring_;
};

/// Residuals of a forward pass alone: a stage's input is dead once the stage has run, so stages share two places in turn; only the
/// ends of the two stacks keep one of their own.
class InferenceResiduals : public model::ResidualStore {
 public:
  InferenceResiduals(const std::vector<model::Stage>& stages, const std::vector<std::size_t>& stage_bytes,
                     std::byte* memory);
  [[nodiscard]] std::byte* stage_memory(int stage, int slot) override;
  [[nodiscard]] static std::size_t bytes(const std::vector<model::Stage>& stages,
                                         const std::vector<std::size_t>& stage_bytes);

 private:
  std::vector<std::size_t> offsets_;
  std::byte* memory_;
};

}  // namespace spillway::train
