// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "core/device.hpp"
#include "core/tensor_view.hpp"

namespace spillway::train {

/// Places in a GPU's memory that extents pass through whose state lies in host memory: one queue brings them, the update works on them,
/// another queue takes them back, so that both directions of the link are busy while the GPU computes. Kernels could reach into pinned
/// memory themselves, but moved a fifth of what copies do (10 of 50 GB/s each way on an H200).
/// One thread at a time. Nothing blocks but wait_for_room() and synchronize().
class LinkRing {
 public:
  /// What of an extent lies in one piece of host memory, and where in its place it goes.
  struct Piece {
    std::byte* on_host = nullptr;    // of Device::allocate
    std::byte* on_device = nullptr;  // in next_place()
    std::size_t bytes = 0;
    bool comes_back = true;
  };

  /// \param memory  device memory, `places` times place_bytes; outlives the ring
  /// \param extents how many there are: they are told apart by number
  /// \param wait_at_once  test-only: nothing overlaps
  LinkRing(Device& device, TensorView memory, std::size_t place_bytes, std::size_t extents, bool wait_at_once);
  /// Waits for what is under way.
  ~LinkRing();
  LinkRing(const LinkRing&) = delete;
  LinkRing& operator=(const LinkRing&) = delete;

  /// No more are better on their way at a time, nor more bytes than the places hold: enough for copies to follow each other without the
  /// caller. What other queues copy waits behind all that was given, and a thread that fills the driver's queues waits inside the driver
  /// and lets no other in.
  static constexpr std::size_t kMostOnTheirWay = 16;
  /// Whether fewer are on their way.
  [[nodiscard]] bool has_room();
  /// Blocks until then.
  void wait_for_room();
  /// Where the extent that is brought next goes.
  [[nodiscard]] std::byte* next_place() const { return memory_.data() + next_ * place_bytes_; }
  /// Starts to bring an extent to the next place, after `after`, where what `queue` is given from now on finds it. Until take_back() there is
  /// no other.
  void bring(Queue& queue, std::size_t extent, std::vector<Piece> pieces, const Event& after = {});
  /// Starts to take back what comes back of it, once `queue` is through with what it has been given so far.
  void take_back(Queue& queue);
  /// What `queue` is given from now on finds the extent in host memory as the last update left it.
  void wait_until_back(Queue& queue, std::size_t extent) { queue.wait(back_.at(extent)); }
  /// Of each extent, when its last update is there.
  [[nodiscard]] const std::vector<Event>& back() const noexcept { return back_; }
  /// Blocks until everything is back.
  void synchronize() { down_->synchronize(); }

 private:
  struct Open {
    std::size_t place, extent;
    std::vector<Piece> pieces;
  };
  /// An extent that was given.
  struct OnItsWay {
    Event back;
    std::size_t bytes;
  };
  Device& device_;
  TensorView memory_;
  std::size_t place_bytes_;
  bool wait_at_once_;
  std::unique_ptr<Queue> up_, down_;  // to the GPU, from it
  std::vector<Event> free_;           // of each place: what was there is back
  std::vector<Event> back_;           // of each extent
  std::deque<OnItsWay> on_their_way_;
  std::size_t bytes_on_their_way_ = 0;
  std::size_t next_ = 0;  // place
  std::optional<Open> open_;
};

}  // namespace spillway::train
