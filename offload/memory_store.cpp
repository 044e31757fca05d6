// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "offload/block_store.hpp"
#include "offload/transfer.hpp"

namespace spillway::offload {
namespace {

struct MemoryFile {
  explicit MemoryFile(std::string name) : path(std::move(name)) {}
  std::string path;
  std::vector<std::byte> bytes;
};

/// A transfer that is over when it begins; its error, if any, is thrown by wait(), as a disk's would be.
class Done final : public Completion::State {
 public:
  explicit Done(std::string failure) : failure_(std::move(failure)) {}
  void wait() override {
    if (!failure_.empty()) throw IoError(failure_);
  }
  [[nodiscard]] bool ready() override { return true; }

 private:
  std::string failure_;
};

class MemoryStore final : public BlockStore {
 public:
  [[nodiscard]] std::string description() const override { return "memory"; }
  [[nodiscard]] std::size_t alignment() const override { return 1; }
  [[nodiscard]] bool in_file_system() const override { return false; }

  [[nodiscard]] FileId open(const std::string& path, OpenMode mode, std::uint64_t bytes) override {
    const std::lock_guard lock(mutex_);
    const auto found = by_path_.find(path);
    if (mode != OpenMode::create_new && found == by_path_.end()) throw IoError(path + ": cannot be opened", ENOENT);
    if (mode == OpenMode::create_new && found != by_path_.end()) throw IoError(path + ": cannot be created", EEXIST);
    auto file = found != by_path_.end() ? found->second : std::make_shared<MemoryFile>(path);
    if (file->bytes.size() < bytes) file->bytes.resize(bytes);
    by_path_[path] = file;
    open_[next_number_] = std::move(file);
    return FileId{next_number_++};
  }

  void close(FileId file, bool /*sync*/) override {
    const std::lock_guard lock(mutex_);
    find(file);
    open_.erase(file.value);
  }

  [[nodiscard]] Completion read(FileId id, std::uint64_t offset_bytes, std::span<std::byte> buffer) override {
    const std::lock_guard lock(mutex_);
    const MemoryFile& file = find(id);
    const std::uint64_t there = offset_bytes < file.bytes.size() ? file.bytes.size() - offset_bytes : 0;
    if (there < buffer.size()) {
      return Completion(
          std::make_shared<Done>(describe_transfer(Direction::read, file.path, offset_bytes, buffer.size()) +
                                 " met the end of the file after " + std::to_string(there) + " bytes"));
    }
    std::copy_n(file.bytes.begin() + static_cast<std::ptrdiff_t>(offset_bytes), buffer.size(), buffer.begin());
    counters_.read_bytes += buffer.size();
    ++counters_.reads;
    return Completion(std::make_shared<Done>(""));
  }

  [[nodiscard]] Completion write(FileId id, std::uint64_t offset_bytes, std::span<const std::byte> buffer) override {
    const std::lock_guard lock(mutex_);
    MemoryFile& file = find(id);
    if (file.bytes.size() < offset_bytes + buffer.size()) file.bytes.resize(offset_bytes + buffer.size());
    std::copy(buffer.begin(), buffer.end(), file.bytes.begin() + static_cast<std::ptrdiff_t>(offset_bytes));
    counters_.written_bytes += buffer.size();
    ++counters_.writes;
    return Completion(std::make_shared<Done>(""));
  }

  [[nodiscard]] StoreCounters counters() const override {
    const std::lock_guard lock(mutex_);
    return counters_;
  }

 private:
  MemoryFile& find(FileId id) {
    const auto found = open_.find(id.value);
    if (found == open_.end()) throw IoError("file number " + std::to_string(id.value) + " is not open in this store");
    return *found->second;
  }

  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<MemoryFile>> by_path_;
  std::map<int, std::shared_ptr<MemoryFile>> open_;
  int next_number_ = 0;
  StoreCounters counters_;
};

}  // namespace

std::unique_ptr<BlockStore> make_memory_store() { return std::make_unique<MemoryStore>(); }

}  // namespace spillway::offload
