// SPDX-License-Identifier: Apache-2.0
#include "train/residuals.hpp"

#include <algorithm>
#include <numeric>

namespace spillway::train {
namespace {

/// Where each stage's memory starts, and behind them the end of all.
std::vector<std::size_t> inference_offsets(const std::vector<model::Stage>& stages,
                                           const std::vector<std::size_t>& stage_bytes) {
  std::size_t largest = 0;
  std::size_t own = 0;
  const auto ends_stack = [](const model::Stage& stage) {
    return stage.kind == model::StageKind::encoder_output || stage.kind == model::StageKind::head;
  };
  for (std::size_t i = 0; i < stages.size(); ++i)
    if (!ends_stack(stages[i])) largest = std::max(largest, stage_bytes[i]);
  std::vector<std::size_t> offsets;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    if (ends_stack(stages[i])) {
      offsets.push_back(2 * largest + own);
      own += stage_bytes[i];
    } else {
      offsets.push_back(i % 2 * largest);
    }
  }
  offsets.push_back(2 * largest + own);
  return offsets;
}

}  // namespace

TrainingResiduals::TrainingResiduals(std::vector<std::size_t> stage_bytes, std::byte* memory, const ResidualRing* ring)
    : offsets_(stage_bytes.size()), slot_bytes_(bytes(stage_bytes)), memory_(memory), ring_(ring) {
  std::exclusive_scan(stage_bytes.begin(), stage_bytes.end(), offsets_.begin(), std::size_t{0});
}

std::byte* TrainingResiduals::stage_memory(int stage, int slot) {
  if (ring_ != nullptr && ring_->passes(stage)) return ring_->memory(stage, slot);
  return memory_ + static_cast<std::size_t>(slot) * slot_bytes_ + offsets_.at(static_cast<std::size_t>(stage));
}

std::size_t TrainingResiduals::bytes(const std::vector<std::size_t>& stage_bytes) {
  return std::accumulate(stage_bytes.begin(), stage_bytes.end(), std::size_t{0});
}

InferenceResiduals::InferenceResiduals(const std::vector<model::Stage>& stages,
                                       const std::vector<std::size_t>& stage_bytes, std::byte* memory)
    : offsets_(inference_offsets(stages, stage_bytes)), memory_(memory) {}

std::byte* InferenceResiduals::stage_memory(int stage, int /*slot*/) {
  return memory_ + offsets_.at(static_cast<std::size_t>(stage));
}

std::size_t InferenceResiduals::bytes(const std::vector<model::Stage>& stages,
                                      const std::vector<std::size_t>& stage_bytes) {
  return inference_offsets(stages, stage_bytes).back();
}

}  // namespace spillway::train
