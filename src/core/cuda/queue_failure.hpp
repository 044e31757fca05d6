// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>

namespace spillway::cuda {

/// What the host work of one CUDA queue threw first, and where in the queue: streams know nothing of exceptions.
/// Each submitted task and each wait has a place, counted from 0; an event's place is that of the next thing after it.
/// A queue that waited for another's event inherits what was thrown before that event. This costs the stream nothing:
/// it is looked up when somebody asks, by which time the other queue's work is done.
class QueueFailure {
 public:
  /// \param mutex  one for all queues that wait for one another: looking up follows the waits from queue to queue
  explicit QueueFailure(std::shared_ptr<std::mutex> mutex) : mutex_(std::move(mutex)) {}

  /// The thing at `place` threw. The earliest counts.
  void fail(std::uint64_t place, std::exception_ptr error);
  /// The thing at `place` waits for what `other` does before its place `other_place`. Places only grow.
  void inherit(std::uint64_t place, std::shared_ptr<QueueFailure> other, std::uint64_t other_place);
  /// What was thrown before `place`, or null. Only once the stream has reached that place.
  [[nodiscard]] std::exception_ptr before(std::uint64_t place);

 private:
  struct Inherited {
    std::uint64_t place;
    std::shared_ptr<QueueFailure> other;
    std::uint64_t other_place;
  };
  void note(std::uint64_t place, std::exception_ptr error);
  std::exception_ptr resolve(std::uint64_t place);

  std::shared_ptr<std::mutex> mutex_;
  std::deque<Inherited> inherited_;  // waits not yet looked up, in order of place
  std::exception_ptr error_;
  std::uint64_t failed_at_ = 0;
};

}  // namespace spillway::cuda
