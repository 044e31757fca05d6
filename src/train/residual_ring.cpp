// SPDX-License-Identifier: Apache-2.0
#include "train/residual_ring.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "core/error.hpp"
#include "plan/job_ledger.hpp"

namespace spillway::train {

ResidualRing::ResidualRing(Device& device, const std::vector<std::size_t>& stage_bytes, int group_size,
                           TensorView places, TensorView host, bool wait_at_once)
    : device_(device),
      places_(std::move(places)),
      wait_at_once_(wait_at_once),
      down_(device.create_compute_queue()),
      up_(device.create_compute_queue()),
      slots_(static_cast<std::size_t>(group_size)) {
  std::size_t end = 0;
  int stages = 0;
  for (std::size_t stage = 0; stage < stage_bytes.size(); ++stage) {
    const std::size_t bytes = stage_bytes[stage];
    rank_of_stage_.push_back(bytes > 0 ? stages : -1);
    if (bytes == 0) continue;
    ++stages;
    last_stage_ = static_cast<int>(stage);
    place_bytes_ = std::max(place_bytes_, bytes);
    for (std::size_t slot = 0; slot < slots_; ++slot, end += bytes) items_.push_back({.on_host = host.data() + end});
  }
  free_.resize(static_cast<std::size_t>(plan::residual_places(group_size, stages)));
  if (places_.bytes() < free_.size() * place_bytes_ || host.bytes() < end)
    throw Error(
        fmt::format("a ring of residuals needs {} places of {} bytes and {} bytes in host memory, found {} and {}",
                    free_.size(), place_bytes_, end, places_.bytes(), host.bytes()));
}

ResidualRing::~ResidualRing() {
  down_->record().wait_quietly();
  up_->record().wait_quietly();
}

bool ResidualRing::passes(int stage) const {
  return static_cast<std::size_t>(stage) < rank_of_stage_.size() &&
         rank_of_stage_[static_cast<std::size_t>(stage)] >= 0;
}

std::size_t ResidualRing::index(int stage, int slot) const {
  return static_cast<std::size_t>(rank_of_stage_[static_cast<std::size_t>(stage)]) * slots_ +
         static_cast<std::size_t>(slot);
}

void ResidualRing::before_forward(Queue& queue, int stage, int slot) {
  if (!passes(stage + 1)) {
    if (stage > last_stage_ && !backward_) begin_backward();
    return;
  }
  if (backward_) {  // the next group: what is written now comes after all that the last backward pass read
    backward_ = false;
    written_.clear();
  }
  Item& next = item(stage + 1, slot);
  next.place = written_.size() % free_.size();
  next.back = Event();
  written_.push_back(index(stage + 1, slot));
  queue.wait(free_[next.place]);
}

void ResidualRing::after_forward(Queue& queue, int stage, int slot, std::size_t bytes) {
  if (!passes(stage + 1)) return;
  Item& next = item(stage + 1, slot);
  next.bytes = bytes;
  down_->wait(queue.record());
  device_.copy(*down_, next.on_host, place(next), bytes);
  free_[next.place] = next.saved = down_->record();
  if (wait_at_once_) next.saved.wait();
}

void ResidualRing::before_backward(Queue& queue, int stage, int slot) {
  if (passes(stage)) queue.wait(item(stage, slot).back);
}

void ResidualRing::after_backward(Queue& queue, int stage, int slot) {
  if (!passes(stage) || to_fetch_.empty()) return;
  Item& next = items_[to_fetch_.back()];
  to_fetch_.pop_back();
  next.place = item(stage, slot).place;
  up_->wait(queue.record());
  up_->wait(free_[next.place]);
  fetch(next);
}

void ResidualRing::bring(Queue& queue, int stage, int slot) {
  Item& wanted = item(stage, slot);
  wanted.place = 0;
  up_->wait(queue.record());
  fetch(wanted);
  queue.wait(wanted.back);
}

/// All stages that pass have run forward. What was written last is still in its place, and is wanted first.
void ResidualRing::begin_backward() {
  backward_ = true;
  to_fetch_.assign(written_.begin(),
                   written_.end() - static_cast<std::ptrdiff_t>(std::min(written_.size(), free_.size())));
  // From the back: the last stage first, the micro-batches of a stage in their order.
  std::ranges::sort(to_fetch_, {},
                    [this](std::size_t item) { return std::pair(item / slots_, slots_ - item % slots_); });
}

void ResidualRing::fetch(Item& item) {
  up_->wait(item.saved);
  device_.copy(*up_, place(item), item.on_host, item.bytes);
  item.back = up_->record();
  if (wait_at_once_) item.back.wait();
}

}  // namespace spillway::train
