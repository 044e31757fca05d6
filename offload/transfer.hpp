// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "offload/block_store.hpp"
#include "offload/file.hpp"

namespace spillway::offload {

enum class Direction { read, write };

/// Where in which file a transfer begins, and the file's number in its store.
struct TransferPlace {
  std::shared_ptr<const File> file;
  FileId id;
  std::uint64_t offset_bytes = 0;
};

/// One read or write of a file: how far it is, and the state its Completion waits on.
/// One thread at a time moves it on (rest(), advance(), fail()) until finish(); any thread may wait.
class Transfer : public Completion::State {
 public:
  enum class Progress { more, whole, failed };

  /// \param buffer  only read from if `direction` is write; must live until finish()
  Transfer(Direction direction, TransferPlace place, std::span<std::byte> buffer);

  [[nodiscard]] Direction direction() const noexcept { return direction_; }
  [[nodiscard]] const TransferPlace& place() const noexcept { return place_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return buffer_.size(); }
  /// What is still to be moved, at most `limit` bytes of it, and where that begins in the file.
  [[nodiscard]] std::span<std::byte> rest(std::size_t limit) const;
  [[nodiscard]] std::uint64_t rest_offset() const noexcept { return place_.offset_bytes + done_; }

  /// Takes the answer of a system call on rest(): the bytes it moved, or -errno. EINTR and EAGAIN mean: once more.
  /// A direct file goes on at the last aligned byte; nothing moved is the end of the file, or a full disk, and fails.
  [[nodiscard]] Progress advance(std::int64_t result);
  /// Notes why the transfer cannot go on.
  void fail(const std::string& why, int error_number);
  [[nodiscard]] bool failed() const noexcept { return failure_.has_value(); }
  /// Wakes who waits. The last call on this object by the thread that moved it on.
  void finish();

  void wait() override;
  [[nodiscard]] bool ready() override;

 private:
  // Not an exception_ptr: each waiter makes its own exception, so that none is shared between threads.
  struct Failure {
    std::string message;
    int error_number;
  };

  Direction direction_;
  TransferPlace place_;
  std::span<std::byte> buffer_;
  std::size_t done_ = 0;
  std::optional<Failure> failure_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool finished_ = false;
};

/// "FILE: read of N bytes at offset O": how every message about a transfer begins.
[[nodiscard]] std::string describe_transfer(Direction direction, const std::string& path, std::uint64_t offset_bytes,
                                            std::size_t bytes);

}  // namespace spillway::offload
