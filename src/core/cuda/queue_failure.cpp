// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/queue_failure.hpp"

#include <utility>

namespace spillway::cuda {

void QueueFailure::fail(std::uint64_t place, std::exception_ptr error) {
  const std::scoped_lock lock(*mutex_);
  note(place, std::move(error));
}

void QueueFailure::inherit(std::uint64_t place, std::shared_ptr<QueueFailure> other, std::uint64_t other_place) {
  const std::scoped_lock lock(*mutex_);
  inherited_.push_back({place, std::move(other), other_place});
}

std::exception_ptr QueueFailure::before(std::uint64_t place) {
  const std::scoped_lock lock(*mutex_);
  return resolve(place);
}

void QueueFailure::note(std::uint64_t place, std::exception_ptr error) {
  if (error_ && failed_at_ <= place) return;
  error_ = std::move(error);
  failed_at_ = place;
}

std::exception_ptr QueueFailure::resolve(std::uint64_t place) {
  // Each wait is looked up once and forgotten, so that a chain of them costs no more than its length.
  while (!inherited_.empty() && inherited_.front().place < place) {
    const Inherited wait = std::move(inherited_.front());
    inherited_.pop_front();
    if (std::exception_ptr error = wait.other->resolve(wait.other_place)) note(wait.place, std::move(error));
  }
  return error_ && failed_at_ < place ? error_ : nullptr;
}

}  // namespace spillway::cuda
