// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <unistd.h>

#include "offload/block_store.hpp"
#include "offload/file_store.hpp"

namespace spillway::offload {
namespace {

/// A thread for each transfer that may be under way, each in a blocking pread or pwrite.
class PosixStore final : public FileStore {
 public:
  explicit PosixStore(const StoreOptions& store_options) : FileStore(store_options) {
    for (int i = 0; i < options().queue_depth; ++i) {
      threads_.emplace_back([this](const std::stop_token& stop) { work(stop); });
    }
  }

  ~PosixStore() override { wait_until_idle(); }

 private:
  [[nodiscard]] std::string name() const override { return "posix"; }

  void start(std::shared_ptr<Transfer> transfer) override {
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(std::move(transfer));
    }
    changed_.notify_one();
  }

  std::shared_ptr<Transfer> next(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait(lock, stop, [this] { return !waiting_.empty(); })) return nullptr;
    auto transfer = std::move(waiting_.front());
    waiting_.pop_front();
    return transfer;
  }

  void work(const std::stop_token& stop) {
    while (const auto transfer = next(stop)) {
      while (transfer->advance(call(*transfer)) == Transfer::Progress::more) {
      }
      finished(transfer);
    }
  }

  [[nodiscard]] std::int64_t call(const Transfer& transfer) const {
    const auto rest = transfer.rest(options().call_bytes);
    const int descriptor = transfer.place().file->descriptor();
    const auto offset = static_cast<off_t>(transfer.rest_offset());
    const bool is_read = transfer.direction() == Direction::read;
    const auto result = is_read ? ::pread(descriptor, rest.data(), rest.size(), offset)
                                : ::pwrite(descriptor, rest.data(), rest.size(), offset);
    return result < 0 ? -errno : result;
  }

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<std::shared_ptr<Transfer>> waiting_;
  std::vector<std::jthread> threads_;  // last: they stop before what they use is gone
};

}  // namespace

std::unique_ptr<BlockStore> make_posix_store(const StoreOptions& options) {
  return std::make_unique<PosixStore>(options);
}

}  // namespace spillway::offload
