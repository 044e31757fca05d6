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
    if (stage > last_stage_ && !backward_) begin_backward(queue);
    return;
  }
  if (backward_) {  // the next group: what is written now comes after all that the last backward pass read
    backward_ = false;
    fetched_ = 0;
    order_.clear();
  }
  Item& next = item(stage + 1, slot);
  next.place = order_.size() % free_.size();
  order_.push_back(index(stage + 1, slot));
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

void ResidualRing::after_backward(Queue& queue, int stage, int /*slot*/) {
  if (!passes(stage) || fetched_ == order_.size()) return;
  up_->wait(queue.record());
  fetch_next();
}

void ResidualRing::bring(Queue& queue, int stage, int slot) {
  Item& wanted = item(stage, slot);
  wanted.place = 0;
  up_->wait(queue.record());
  fetch(wanted);
  queue.wait(wanted.back);
}

/// All stages that pass have run forward.
void ResidualRing::begin_backward(Queue& queue) {
  backward_ = true;
  // The last stage first, the micro-batches of a stage in their order.
  std::ranges::stable_sort(order_, std::ranges::greater{}, [this](std::size_t item) { return item / slots_; });
  up_->wait(queue.record());
  while (fetched_ < std::min(free_.size(), order_.size())) fetch_next();
}

void ResidualRing::fetch_next() {
  Item& next = items_[order_[fetched_]];
  next.place = fetched_ % free_.size();
  up_->wait(free_[next.place]);
  fetch(next);
  ++fetched_;
}

void ResidualRing::fetch(Item& item) {
  up_->wait(item.saved);
  device_.copy(*up_, place(item), item.on_host, item.bytes);
  item.back = up_->record();
  if (wait_at_once_) item.back.wait();
}

}  // namespace spillway::train
