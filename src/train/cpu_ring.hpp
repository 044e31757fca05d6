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

/// Places in pinned host memory for what the CPU updates and a GPU has: gradients and weights come down to them on one queue, and what the
/// update has changed goes up on another, while the CPU works on other places. First in, first out. One thread at a time; only take()
/// and synchronize() block, asleep.
class CpuRing {
 public:
  /// What of an extent lies in one piece of device memory, and where in its place it goes.
  struct Piece {
    std::byte* on_device = nullptr;
    std::byte* on_host = nullptr;  // in next_place()
    std::size_t bytes = 0;
    bool changes = true;  // goes up again
  };

  /// \param memory  pinned, of `device`: as many places as it holds of place_bytes; outlives the ring
  /// \param wait_at_once  test-only: nothing overlaps
  CpuRing(Device& device, TensorView memory, std::size_t place_bytes, bool wait_at_once);
  /// Waits for what is under way.
  ~CpuRing();
  CpuRing(const CpuRing&) = delete;
  CpuRing& operator=(const CpuRing&) = delete;

  /// Whether a place is free to fetch another extent: none that came down, or is coming, has it.
  [[nodiscard]] bool has_room() const { return coming_.size() + (taken_ ? 1 : 0) < free_.size(); }
  /// Where the extent that is fetched next goes.
  [[nodiscard]] std::byte* next_place() const { return memory_.data() + next_ * place_bytes_; }
  /// Starts to bring an extent down, which nobody may change meanwhile. \throws Error without room
  void fetch(std::size_t extent, std::vector<Piece> pieces);
  /// Blocks until the extent that was fetched first is there. \throws Error if it is another one, or the last was not given back
  void take(std::size_t extent);
  /// Where the extent that was taken lies.
  [[nodiscard]] std::byte* taken_place() const { return memory_.data() + taken_.value().place * place_bytes_; }
  /// Starts to take up what has changed of it.
  void give_back();
  /// All that was given back is in device memory.
  [[nodiscard]] Event back() const { return back_; }
  /// Blocks until it is.
  void synchronize() { back_.wait(); }

 private:
  struct Extent {
    std::size_t place, extent;
    std::vector<Piece> pieces;
    Event here;
  };
  Device& device_;
  TensorView memory_;
  std::size_t place_bytes_;
  bool wait_at_once_;
  std::unique_ptr<Queue> down_, up_;  // from the GPU, to it
  std::vector<Event> free_;           // of each place: what was there is back
  std::size_t next_ = 0;              // place
  std::deque<Extent> coming_;
  std::optional<Extent> taken_;
  Event back_;
};

}  // namespace spillway::train
