// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace spillway::offload {

/// A read or write under way. Move-only value; must be waited for (its destructor waits and drops an error).
class Completion {
 public:
  class State {
   public:
    virtual ~State() = default;
    /// Blocks until the transfer is whole. \throws IoError with file, offset and length
    virtual void wait() = 0;
    /// Whether wait() would not block on the transfer. Never blocks.
    [[nodiscard]] virtual bool ready() = 0;
  };

  Completion() = default;
  explicit Completion(std::shared_ptr<State> state) : state_(std::move(state)) {}
  Completion(Completion&&) noexcept = default;
  Completion& operator=(Completion&& other) noexcept;
  ~Completion();
  /// Blocks until the transfer is whole; a second call returns at once. \throws IoError with file, offset and length
  void wait();
  /// Whether wait() has still to be called.
  [[nodiscard]] bool pending() const noexcept { return state_ != nullptr; }
  /// Whether wait() would not block on the transfer.
  [[nodiscard]] bool ready() const { return state_ == nullptr || state_->ready(); }

 private:
  std::shared_ptr<State> state_;
};

/// How a file of a store is opened.
enum class OpenMode {
  create_new,     // must not exist; mode 0600
  open_existing,  // must exist; read and write
  read_existing   // must exist; only read, so that the right to read is enough
};

/// A file of a store, by number.
struct FileId {
  int value = -1;
};

/// Whole transfers so far, in bytes and in requests.
struct StoreCounters {
  std::uint64_t read_bytes = 0, written_bytes = 0;
  std::uint64_t reads = 0, writes = 0;
};

/// Storage of blocks in files: many reads and writes in flight, each a value that can be waited for. Offsets, lengths
/// and buffer addresses are multiples of alignment(). Transfers of disjoint ranges may finish in any order. Safe from
/// several threads. Short transfers are continued and EINTR and EAGAIN retried; only a whole transfer completes.
/// Completions may outlive the store: its destructor waits for all transfers.
class BlockStore {
 public:
  virtual ~BlockStore() = default;
  /// "uring, O_DIRECT, 32 in flight": for the log. Whether the page cache is bypassed is what the open files got.
  [[nodiscard]] virtual std::string description() const = 0;
  /// Bytes; a power of two, at least 1 (no requirement) and at most 4096.
  [[nodiscard]] virtual std::size_t alignment() const = 0;
  /// Opens a file and, if `bytes` is not 0, reserves that much of it (posix_fallocate). \throws IoError
  [[nodiscard]] virtual FileId open(const std::string& path, OpenMode mode, std::uint64_t bytes) = 0;
  /// Waits for the file's transfers, makes it durable if `sync`, closes it. \throws IoError
  virtual void close(FileId file, bool sync) = 0;
  /// Start a transfer of all of `buffer`, which must live until the completion. Blocks only while the queue is full.
  /// \throws IoError if the file is not open or something is no multiple of alignment(); wait() throws what fails later
  [[nodiscard]] virtual Completion read(FileId file, std::uint64_t offset_bytes, std::span<std::byte> buffer) = 0;
  [[nodiscard]] virtual Completion write(FileId file, std::uint64_t offset_bytes,
                                         std::span<const std::byte> buffer) = 0;
  [[nodiscard]] virtual StoreCounters counters() const = 0;
  /// Announces memory that many transfers will use, so that the store may pin it once; it must then stay mapped until
  /// the store is gone. Returns whether the store did so: transfers work the same either way.
  virtual bool register_buffer(std::span<std::byte> /*memory*/) { return false; }
  /// Whether a path is a path of the file system (as against a mere name of a file in memory).
  [[nodiscard]] virtual bool in_file_system() const { return true; }
};

struct StoreOptions {
  int queue_depth = 32;               // transfers in flight
  bool direct = true;                 // O_DIRECT where the file system has it
  std::size_t call_bytes = 1u << 30;  // most bytes asked of one system call, a multiple of 4096; longer transfers go on
};

/// Files in memory, for tests: nothing is on disk. `path` is only a name.
[[nodiscard]] std::unique_ptr<BlockStore> make_memory_store();
/// pread and pwrite on a thread pool.
[[nodiscard]] std::unique_ptr<BlockStore> make_posix_store(const StoreOptions& options);
/// io_uring. \throws NotCompiled without liburing, IoError if the kernel refuses the ring or lacks an opcode
[[nodiscard]] std::unique_ptr<BlockStore> make_uring_store(const StoreOptions& options);
[[nodiscard]] bool uring_compiled() noexcept;
/// By name; auto is uring, or posix with one log line that says why.
/// \throws ConfigError for a name other than auto, uring, posix, memory
[[nodiscard]] std::unique_ptr<BlockStore> make_store(const std::string& name, const StoreOptions& options);

}  // namespace spillway::offload
