// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>

#include "comm/communicator.hpp"
#include "core/device.hpp"

namespace spillway::test {

/// A communicator over a slow network: every tensor collective of `inner` is done `latency` later, one after the other,
/// and the caller does not wait. Blocking calls are not delayed. For tests that show what is overlapped.
class DelayedCommunicator : public comm::Communicator {
 public:
  DelayedCommunicator(std::unique_ptr<comm::Communicator> inner, std::chrono::microseconds latency);

  [[nodiscard]] int rank() const noexcept override { return inner_->rank(); }
  [[nodiscard]] int size() const noexcept override { return inner_->size(); }
  [[nodiscard]] Event all_gather(const Event& after, ConstTensorView shard, TensorView full) override;
  [[nodiscard]] Event reduce_scatter(const Event& after, ConstTensorView full, TensorView shard,
                                     std::span<const int> piece_of_rank) override;
  void reserve(std::size_t piece_bytes) override { inner_->reserve(piece_bytes); }
  [[nodiscard]] Event broadcast(const Event& after, TensorView tensor, int root) override;
  void barrier() override { inner_->barrier(); }
  [[nodiscard]] std::vector<std::vector<std::byte>> exchange(std::span<const std::byte> bytes) override {
    return inner_->exchange(bytes);
  }
  /// The group's latency comes after that of what was asked before.
  [[nodiscard]] std::unique_ptr<comm::Communicator> split(int color, int key) override;
  [[nodiscard]] comm::Watchdog& watchdog() noexcept override { return inner_->watchdog(); }
  [[nodiscard]] std::uint64_t bytes_sent() const noexcept override { return inner_->bytes_sent(); }
  void abort(int exit_code, const std::string& reason) noexcept override { inner_->abort(exit_code, reason); }

 private:
  DelayedCommunicator(std::unique_ptr<comm::Communicator> inner, const DelayedCommunicator& parent)
      : inner_(std::move(inner)), latency_(parent.latency_), queue_(parent.queue_) {}
  [[nodiscard]] Event delayed(const Event& event);

  std::unique_ptr<comm::Communicator> inner_;
  std::chrono::microseconds latency_;
  std::shared_ptr<Queue> queue_;
};

}  // namespace spillway::test
