// SPDX-License-Identifier: Apache-2.0
#include "train/nvme_weight_reader.hpp"

#include <array>
#include <optional>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::train {

NvmeWeightReader::NvmeWeightReader(ShardState& state, TensorView memory, Device& device)
    : state_(state),
      memory_(memory.data(), memory.bytes()),
      device_(device),
      copies_(device.create_compute_queue()),
      queue_(device.create_worker_queue("weights")) {}

Event NvmeWeightReader::read(std::initializer_list<Event> after, int unit, TensorView to) {
  for (const Event& event : after) queue_->wait(event);
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
    device_.copy(*copies_, part.data(), memory_.data() + buffer * each, part.bytes());
    copies_->synchronize();  // the buffer is read into again
  }
}

}  // namespace spillway::train
