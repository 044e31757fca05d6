// SPDX-License-Identifier: Apache-2.0
#include "train/nvme_weight_reader.hpp"

#include <array>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::train {

NvmeWeightReader::NvmeWeightReader(ShardState& state, TensorView memory, Device& device)
    : state_(state), memory_(memory.data(), memory.bytes()), queue_(device.create_worker_queue("weights")) {}

Event NvmeWeightReader::read(const Event& after, int unit, TensorView to) {
  queue_->wait(after);
  queue_->submit([this, unit, to] {
    try {
      read_now(unit, to);
    } catch (const IoError& error) {
      throw IoError(fmt::format("weights of unit {}: {}", unit, error.what()));
    }
  });
  return queue_->record();
}

void NvmeWeightReader::read_now(int unit, TensorView to) {
  const std::vector<std::size_t>& extents = state_.extents_of(unit);
  const std::size_t kind = *state_.nvme_kind(StateKind::weight);
  const std::size_t each = memory_.size() / kBuffers;
  std::array<std::optional<offload::Completion>, kBuffers> under_way;
  const auto start = [&](std::size_t i) {
    const std::size_t buffer = i % kBuffers;
    under_way[buffer].emplace(state_.files().read(
        extents[i], kind, memory_.subspan(buffer * each, state_.files().stored_bytes(extents[i], kind))));
  };
  if (!extents.empty()) start(0);
  for (std::size_t i = 0; i < extents.size(); ++i) {
    if (i + 1 < extents.size()) start(i + 1);
    const std::size_t buffer = i % kBuffers;
    under_way[buffer]->wait();
    const Range range = state_.extents()[extents[i]].range;
    const TensorView part = to.flat(range.begin, range.size());
    std::memcpy(part.data(), memory_.data() + buffer * each, part.bytes());
  }
}

}  // namespace spillway::train
