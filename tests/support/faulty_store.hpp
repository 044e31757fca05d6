// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "offload/block_store.hpp"

namespace spillway::test {

/// What goes wrong in a FaultyStore. Reads and writes are counted separately, from 0.
struct Faults {
  std::optional<int> failing_read = {};    // fails: its wait() throws
  std::optional<int> failing_write = {};   // likewise
  int error_number = ENOSPC;               // with this errno
  std::optional<int> corrupted_read = {};  // gives other bytes than are stored:
  std::size_t corrupted_byte = 0;          // this byte of it has a flipped bit
  std::chrono::microseconds latency{0};    // no transfer is done sooner after its start; its caller is not blocked
  double random_rate = 0.0;                // of all transfers, so many (0 to 1) have one of RandomFault
  std::uint64_t random_seed = 0;           // which these are
};

/// What a drive does that is about to die. `shortened` and `corrupted` say that they did their work.
enum class RandomFault {
  none,
  failed,     // its wait() throws
  stalled,    // takes some milliseconds longer
  shortened,  // only a first part is read or written: what else the buffer or the file held stays
  corrupted   // a bit is another one: in the buffer of a read, in the file after a write
};

/// Another store with faults; random ones need a store whose alignment is 1. Safe from several threads, if the other store is.
class FaultyStore final : public offload::BlockStore {
 public:
  /// \param store outlives this one
  FaultyStore(offload::BlockStore& store, Faults faults) : store_(store), faults_(faults) {}

  [[nodiscard]] std::string description() const override { return "faulty " + store_.description(); }
  [[nodiscard]] std::size_t alignment() const override { return store_.alignment(); }
  [[nodiscard]] offload::FileId open(const std::string& path, offload::OpenMode mode, std::uint64_t bytes) override;
  void close(offload::FileId file, bool sync) override;
  [[nodiscard]] offload::Completion read(offload::FileId file, std::uint64_t offset_bytes,
                                         std::span<std::byte> buffer) override;
  [[nodiscard]] offload::Completion write(offload::FileId file, std::uint64_t offset_bytes,
                                          std::span<const std::byte> buffer) override;
  [[nodiscard]] offload::StoreCounters counters() const override { return store_.counters(); }
  bool register_buffer(std::span<std::byte> memory) override { return store_.register_buffer(memory); }
  [[nodiscard]] bool in_file_system() const override { return store_.in_file_system(); }

  /// Faults from here on; the counts begin at 0 again.
  void set_faults(Faults faults);

 private:
  /// Of the next transfer. \param draws  a number of its own, for what else is drawn
  RandomFault draw(std::uint64_t& draws);
  std::string failure(const char* verb, offload::FileId file, std::uint64_t offset_bytes, std::size_t bytes) const;

  offload::BlockStore& store_;
  mutable std::mutex mutex_;
  Faults faults_;
  int reads_ = 0, writes_ = 0;
  std::uint64_t transfers_ = 0;
  std::map<int, std::string> paths_;
};

}  // namespace spillway::test
