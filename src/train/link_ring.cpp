// SPDX-License-Identifier: Apache-2.0
#include "train/link_ring.hpp"

#include <utility>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::train {

LinkRing::LinkRing(Device& device, TensorView memory, std::size_t place_bytes, std::size_t extents, bool wait_at_once)
    : device_(device),
      memory_(std::move(memory)),
      place_bytes_(place_bytes),
      wait_at_once_(wait_at_once),
      up_(device.create_compute_queue()),
      down_(device.create_compute_queue()),
      free_(place_bytes == 0 ? 0 : memory_.bytes() / place_bytes),
      back_(extents) {
  if (free_.empty())
    throw Error(
        fmt::format("a ring over the link needs places of {} bytes, found {} bytes", place_bytes, memory_.bytes()));
}

LinkRing::~LinkRing() {
  for (const Event& back : back_) back.wait_quietly();
}

bool LinkRing::has_room() {
  while (!on_their_way_.empty() && on_their_way_.front().back.ready()) {
    bytes_on_their_way_ -= on_their_way_.front().bytes;
    on_their_way_.pop_front();
  }
  return on_their_way_.size() < kMostOnTheirWay && bytes_on_their_way_ < free_.size() * place_bytes_;
}

void LinkRing::wait_for_room() {
  while (!has_room()) on_their_way_.front().back.wait();
}

void LinkRing::bring(Queue& queue, std::size_t extent, std::vector<Piece> pieces, const Event& after) {
  if (open_) throw Error(fmt::format("extent {} is brought while extent {} is still there", extent, open_->extent));
  const std::size_t place = std::exchange(next_, (next_ + 1) % free_.size());
  up_->wait(free_[place]);
  up_->wait(back_.at(extent));
  up_->wait(after);
  for (const Piece& piece : pieces) device_.copy(*up_, piece.on_device, piece.on_host, piece.bytes);
  const Event here = up_->record();
  if (wait_at_once_) here.wait();
  queue.wait(here);
  open_ = Open{place, extent, std::move(pieces)};
}

void LinkRing::take_back(Queue& queue) {
  const Open open = std::exchange(open_, std::nullopt).value();
  down_->wait(queue.record());
  std::size_t bytes = 0;
  for (const Piece& piece : open.pieces) {
    bytes += piece.bytes;
    if (piece.comes_back) device_.copy(*down_, piece.on_host, piece.on_device, piece.bytes);
  }
  free_[open.place] = back_[open.extent] = down_->record();
  on_their_way_.push_back({.back = back_[open.extent], .bytes = bytes});
  bytes_on_their_way_ += bytes;
  if (wait_at_once_) back_[open.extent].wait();
}

}  // namespace spillway::train
