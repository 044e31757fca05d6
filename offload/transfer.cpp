// SPDX-License-Identifier: Apache-2.0
#include "offload/transfer.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/error.hpp"

namespace spillway::offload {

std::string describe_transfer(Direction direction, const std::string& path, std::uint64_t offset_bytes,
                              std::size_t bytes) {
  return path + ": " + (direction == Direction::read ? "read" : "write") + " of " + std::to_string(bytes) +
         " bytes at offset " + std::to_string(offset_bytes);
}

Transfer::Transfer(Direction direction, TransferPlace place, std::span<std::byte> buffer)
    : direction_(direction), place_(std::move(place)), buffer_(buffer) {}

std::span<std::byte> Transfer::rest(std::size_t limit) const {
  const auto rest = buffer_.subspan(done_);
  return rest.first(std::min(rest.size(), limit));
}

Transfer::Progress Transfer::advance(std::int64_t result) {
  if (result == -EINTR || result == -EAGAIN) return Progress::more;
  if (result < 0) {
    fail(" failed after " + std::to_string(done_) + " bytes", static_cast<int>(-result));
    return Progress::failed;
  }
  const std::size_t reached = done_ + static_cast<std::size_t>(result);
  if (reached >= buffer_.size()) {
    done_ = buffer_.size();
    return Progress::whole;
  }
  const std::size_t aligned = reached - reached % place_.file->alignment();
  if (aligned == done_) {
    fail(direction_ == Direction::read ? " met the end of the file after " + std::to_string(reached) + " bytes"
                                       : " stopped after " + std::to_string(reached) + " bytes",
         0);
    return Progress::failed;
  }
  done_ = aligned;
  return Progress::more;
}

void Transfer::fail(const std::string& why, int error_number) {
  failure_ =
      Failure{.message = describe_transfer(direction_, place_.file->path(), place_.offset_bytes, buffer_.size()) + why,
              .error_number = error_number};
}

void Transfer::finish() {
  const std::lock_guard lock(mutex_);
  finished_ = true;
  changed_.notify_all();
}

void Transfer::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return finished_; });
  if (failure_) throw IoError(failure_->message, failure_->error_number);
}

bool Transfer::ready() {
  const std::lock_guard lock(mutex_);
  return finished_;
}

}  // namespace spillway::offload
