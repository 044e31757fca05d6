// SPDX-License-Identifier: Apache-2.0
#include "comm/queued_communicator.hpp"

#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.hpp"

namespace spillway::comm {
namespace {

/// A shard may lie inside `full` only at its own place: elsewhere it would be overwritten before it is read.
void require_place(const char* operation, const ConstTensorView& full, const ConstTensorView& shard, int rank,
                   int piece) {
  const std::byte* place = full.data() + static_cast<std::size_t>(piece) * shard.bytes();
  const bool overlaps = shard.data() < full.data() + full.bytes() && full.data() < shard.data() + shard.bytes();
  if (overlaps && (shard.data() != place || shard.dtype() != full.dtype()))
    throw Error(
        fmt::format("{}: the shard of rank {} overlaps the full tensor outside its own place", operation, rank));
}

void require_elements(const char* operation, const ConstTensorView& full, const ConstTensorView& shard, int size) {
  if (full.elements() != size * shard.elements())
    throw Error(fmt::format("{}: {} ranks with a shard of {} elements need {}, found {}", operation, size,
                            shard.elements(), size * shard.elements(), full.elements()));
}

void require_permutation(std::span<const int> pieces, int size) {
  std::vector<bool> given(static_cast<std::size_t>(size));
  bool fits = pieces.size() == given.size();
  for (const int piece : pieces) {
    fits = fits && piece >= 0 && piece < size && !given[static_cast<std::size_t>(piece)];
    if (!fits) break;
    given[static_cast<std::size_t>(piece)] = true;
  }
  if (!fits)
    throw Error(fmt::format("reduce_scatter: {} ranks need every piece below {} once, found {}", size, size,
                            fmt::join(pieces, ", ")));
}

}  // namespace

Event QueuedCommunicator::enqueue(const Event& after, const Operation& operation, std::function<void()> work) {
  queue_->wait(after);
  if (size_ == 1) {
    queue_->submit(std::move(work));
  } else {
    queue_->submit([this, operation, subject = watchdog_->subject(), work = std::move(work)] {
      const Watchdog::Call call(*watchdog_, operation.name, operation.bytes, size_, subject);
      work();
    });
  }
  last_ = queue_->record();
  return last_;
}

void QueuedCommunicator::run_on_queue(const Operation& operation, std::function<void()> work) {
  enqueue({}, operation, std::move(work)).wait();
}

Event QueuedCommunicator::all_gather(const Event& after, ConstTensorView shard, TensorView full) {
  if (shard.dtype() != full.dtype())
    throw Error(
        fmt::format("all_gather: a shard of {} for a tensor of {}", name_of(shard.dtype()), name_of(full.dtype())));
  require_elements("all_gather", full, shard, size_);
  require_place("all_gather", full, shard, rank_, rank_);
  return enqueue(after, {"all_gather", full.bytes()}, [this, shard, full] {
    do_all_gather({shard.data(), shard.bytes()}, full.data());
  });
}

Event QueuedCommunicator::reduce_scatter(const Event& after, ConstTensorView full, TensorView shard,
                                         std::span<const int> piece_of_rank) {
  const DType wire = full.dtype();
  if (wire != DType::f32 && wire != DType::bf16 && wire != DType::f16)
    throw Error(fmt::format("reduce_scatter: expected f32, bf16 or f16, found {}", name_of(wire)));
  if (shard.dtype() != DType::f32 && shard.dtype() != wire)
    throw Error(fmt::format("reduce_scatter: a sum of {} must go to f32 or {}, found {}", name_of(wire), name_of(wire),
                            name_of(shard.dtype())));
  require_elements("reduce_scatter", full, shard, size_);
  if (!piece_of_rank.empty()) require_permutation(piece_of_rank, size_);
  require_place("reduce_scatter", full, shard, rank_, piece_of(piece_of_rank, rank_));
  return enqueue(after, {"reduce_scatter", full.bytes()},
                 [this, full, shard, piece_of_rank] { do_reduce_scatter(full, shard, piece_of_rank); });
}

Event QueuedCommunicator::broadcast(const Event& after, TensorView tensor, int root) {
  if (root < 0 || root >= size_) throw Error(fmt::format("broadcast: root {} of {} ranks", root, size_));
  return enqueue(after, {"broadcast", tensor.bytes()}, [this, tensor, root] {
    do_broadcast({tensor.data(), tensor.bytes()}, root);
  });
}

void QueuedCommunicator::barrier() {
  run_on_queue({"barrier"}, [this] { do_barrier(); });
}

std::vector<std::vector<std::byte>> QueuedCommunicator::exchange(std::span<const std::byte> bytes) {
  std::vector<std::vector<std::byte>> all;
  run_on_queue({"exchange"}, [&] { all = do_exchange(bytes); });
  return all;
}

std::unique_ptr<Communicator> QueuedCommunicator::split(int color, int key) {
  if (color < 0) throw Error(fmt::format("split: expected a color of 0 or more, found {}", color));
  return do_split(color, key);
}

void QueuedCommunicator::leave_queue(std::function<void()> last) noexcept {
  last_.wait_quietly();
  if (last) queue_->submit(std::move(last));
  queue_.reset();
}

void QueuedCommunicator::count_sent(std::size_t bytes) noexcept {
  bytes_sent_ += bytes;
  if (parent_ != nullptr) parent_->count_sent(bytes);
}

void copy_unless_same(std::byte* to, std::span<const std::byte> from) noexcept {
  if (to != from.data() && !from.empty()) std::memcpy(to, from.data(), from.size());
}

}  // namespace spillway::comm
