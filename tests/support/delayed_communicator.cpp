// SPDX-License-Identifier: Apache-2.0
#include "support/delayed_communicator.hpp"

#include <thread>

namespace spillway::test {

DelayedCommunicator::DelayedCommunicator(std::unique_ptr<comm::Communicator> inner, std::chrono::microseconds latency)
    : inner_(std::move(inner)), latency_(latency), queue_(make_host_device()->create_worker_queue("slow-network")) {}

Event DelayedCommunicator::all_gather(const Event& after, ConstTensorView shard, TensorView full) {
  return delayed(inner_->all_gather(after, shard, full));
}

Event DelayedCommunicator::reduce_scatter(const Event& after, ConstTensorView full, TensorView shard,
                                          std::span<const int> piece_of_rank) {
  return delayed(inner_->reduce_scatter(after, full, shard, piece_of_rank));
}

Event DelayedCommunicator::broadcast(const Event& after, TensorView tensor, int root) {
  return delayed(inner_->broadcast(after, tensor, root));
}

std::unique_ptr<comm::Communicator> DelayedCommunicator::split(int color, int key) {
  return std::unique_ptr<comm::Communicator>(new DelayedCommunicator(inner_->split(color, key), *this));
}

Event DelayedCommunicator::delayed(const Event& event) {
  queue_->wait(event);
  queue_->submit([latency = latency_] { std::this_thread::sleep_for(latency); });
  return queue_->record();
}

}  // namespace spillway::test
