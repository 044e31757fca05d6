// SPDX-License-Identifier: Apache-2.0
#include "train/cpu_ring.hpp"

#include <utility>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::train {

CpuRing::CpuRing(Device& device, TensorView memory, std::size_t place_bytes, bool wait_at_once)
    : device_(device),
      memory_(std::move(memory)),
      place_bytes_(place_bytes),
      wait_at_once_(wait_at_once),
      down_(device.create_compute_queue()),
      up_(device.create_compute_queue()),
      free_(place_bytes == 0 ? 0 : memory_.bytes() / place_bytes) {
  if (free_.empty())
    throw Error(fmt::format("a ring for the CPU's updates needs places of {} bytes, found {} bytes", place_bytes,
                            memory_.bytes()));
}

CpuRing::~CpuRing() {
  for (const Extent& extent : coming_) extent.here.wait_quietly();
  back_.wait_quietly();
}

void CpuRing::fetch(std::size_t extent, std::vector<Piece> pieces) {
  if (!has_room())
    throw Error(fmt::format("extent {} is fetched while all {} places are in use", extent, free_.size()));
  const std::size_t place = std::exchange(next_, (next_ + 1) % free_.size());
  down_->wait(free_[place]);
  for (const Piece& piece : pieces) device_.copy(*down_, piece.on_host, piece.on_device, piece.bytes);
  coming_.push_back({.place = place, .extent = extent, .pieces = std::move(pieces), .here = down_->record()});
  if (wait_at_once_) coming_.back().here.wait();
}

void CpuRing::take(std::size_t extent) {
  if (taken_) throw Error(fmt::format("extent {} is taken while extent {} still is", extent, taken_->extent));
  if (coming_.empty() || coming_.front().extent != extent)
    throw Error(fmt::format("extent {} is taken but was not fetched next", extent));
  coming_.front().here.wait();
  taken_ = std::move(coming_.front());
  coming_.pop_front();
}

void CpuRing::give_back() {
  const Extent extent = std::exchange(taken_, std::nullopt).value();
  for (const Piece& piece : extent.pieces)
    if (piece.changes) device_.copy(*up_, piece.on_device, piece.on_host, piece.bytes);
  free_[extent.place] = back_ = up_->record();
  if (wait_at_once_) back_.wait();
}

}  // namespace spillway::train
