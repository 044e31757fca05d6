// SPDX-License-Identifier: Apache-2.0
#include "offload/file_store.hpp"

#include <utility>

#include "core/error.hpp"

namespace spillway::offload {

FileStore::FileStore(const StoreOptions& options) : options_(options) {
  if (options.queue_depth < 1 || options.queue_depth > 4096) {
    throw ConfigError("queue_depth: " + std::to_string(options.queue_depth) + "; 1 to 4096 transfers expected");
  }
  if (options.call_bytes == 0 || options.call_bytes % kDirectAlignment != 0 || options.call_bytes > 1u << 30) {
    throw ConfigError("call_bytes: " + std::to_string(options.call_bytes) +
                      "; a multiple of 4096 up to 1073741824 expected");
  }
}

std::string FileStore::description() const {
  int direct = 0, buffered = 0;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [number, open_file] : files_) ++(open_file.file->direct() ? direct : buffered);
  }
  const std::string cache = !options_.direct || (direct == 0 && buffered > 0) ? "buffered"
                            : direct == 0                                     ? "O_DIRECT where files have it"
                            : buffered == 0                                   ? "O_DIRECT"
                                                                              : "O_DIRECT for some of the files";
  return name() + ", " + cache + ", " + std::to_string(options_.queue_depth) + " in flight";
}

FileId FileStore::open(const std::string& path, OpenMode mode, std::uint64_t bytes) {
  auto file = std::make_shared<File>(path, mode, bytes, options_.direct);
  const std::lock_guard lock(mutex_);
  const int number = next_number_++;
  files_.emplace(number, OpenFile{.file = std::move(file)});
  return FileId{number};
}

void FileStore::close(FileId id, bool sync) {
  std::shared_ptr<File> file;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return find(id).under_way == 0; });
    file = find(id).file;
    files_.erase(id.value);
  }
  if (sync) file->sync();
}

Completion FileStore::read(FileId file, std::uint64_t offset_bytes, std::span<std::byte> buffer) {
  return begin(Direction::read, file, offset_bytes, buffer);
}

Completion FileStore::write(FileId file, std::uint64_t offset_bytes, std::span<const std::byte> buffer) {
  // A Transfer serves both directions; the bytes of a write are only read.
  return begin(Direction::write, file, offset_bytes, {const_cast<std::byte*>(buffer.data()), buffer.size()});
}

StoreCounters FileStore::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

Completion FileStore::begin(Direction direction, FileId id, std::uint64_t offset_bytes, std::span<std::byte> buffer) {
  std::shared_ptr<Transfer> transfer;
  {
    std::unique_lock lock(mutex_);
    const auto address = reinterpret_cast<std::uintptr_t>(buffer.data());
    if (offset_bytes % alignment() != 0 || buffer.size() % alignment() != 0 || address % alignment() != 0) {
      throw IoError(describe_transfer(direction, find(id).file->path(), offset_bytes, buffer.size()) +
                    ": offset, length and address (here " + std::to_string(address % alignment()) +
                    " beyond) must be multiples of " + std::to_string(alignment()));
    }
    changed_.wait(lock, [this] { return under_way_ < options_.queue_depth; });
    OpenFile& open_file = find(id);
    transfer = std::make_shared<Transfer>(
        direction, TransferPlace{.file = open_file.file, .id = id, .offset_bytes = offset_bytes}, buffer);
    ++open_file.under_way;
    ++under_way_;
  }
  start(transfer);
  return Completion(std::move(transfer));
}

void FileStore::finished(const std::shared_ptr<Transfer>& transfer) {
  {
    const std::lock_guard lock(mutex_);
    if (!transfer->failed()) {
      const bool is_read = transfer->direction() == Direction::read;
      (is_read ? counters_.read_bytes : counters_.written_bytes) += transfer->bytes();
      ++(is_read ? counters_.reads : counters_.writes);
    }
    --find(transfer->place().id).under_way;
    --under_way_;
    changed_.notify_all();
  }
  // The store may be gone from here on; the transfer is still ours.
  transfer->finish();
}

void FileStore::wait_until_idle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return under_way_ == 0; });
}

FileStore::OpenFile& FileStore::find(FileId id) {
  const auto found = files_.find(id.value);
  if (found == files_.end()) {
    throw IoError("file number " + std::to_string(id.value) + " is not open in this store");
  }
  return found->second;
}

}  // namespace spillway::offload
