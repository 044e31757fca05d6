// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <barrier>
#include <cstddef>
#include <functional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "comm/communicator.hpp"

namespace spillway::app {

/// Ranks as threads that can do nothing but exchange: all that agreement needs.
class ExchangeCommunicator final : public comm::Communicator {
 public:
  struct Group {
    explicit Group(int size) : bytes(static_cast<std::size_t>(size)), barrier(size) {}
    std::vector<std::vector<std::byte>> bytes;
    std::barrier<> barrier;
  };
  ExchangeCommunicator(Group& group, int rank) : group_(group), rank_(rank) {}

  [[nodiscard]] int rank() const noexcept override { return rank_; }
  [[nodiscard]] int size() const noexcept override { return static_cast<int>(group_.bytes.size()); }
  [[nodiscard]] std::vector<std::vector<std::byte>> exchange(std::span<const std::byte> bytes) override {
    group_.bytes[static_cast<std::size_t>(rank_)].assign(bytes.begin(), bytes.end());
    group_.barrier.arrive_and_wait();
    auto all = group_.bytes;
    group_.barrier.arrive_and_wait();
    return all;
  }
  void barrier() override { group_.barrier.arrive_and_wait(); }
  [[nodiscard]] Event all_gather(const Event&, ConstTensorView, TensorView) override { return refuse(); }
  [[nodiscard]] Event reduce_scatter(const Event&, ConstTensorView, TensorView) override { return refuse(); }
  [[nodiscard]] Event broadcast(const Event&, TensorView, int) override { return refuse(); }
  [[nodiscard]] std::uint64_t bytes_sent() const noexcept override { return 0; }
  void abort(int, const std::string&) noexcept override {}

 private:
  [[noreturn]] static Event refuse() { throw std::logic_error("no tensors here"); }
  Group& group_;
  int rank_;
};

/// Runs `body` once for each rank, each in a thread of its own.
inline void run_ranks(int ranks, const std::function<void(comm::Communicator&)>& body) {
  ExchangeCommunicator::Group group(ranks);
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&group, &body, rank] {
      ExchangeCommunicator communicator(group, rank);
      body(communicator);
    });
  }
}

}  // namespace spillway::app
