// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <mutex>
#include <vector>

#include <liburing.h>

#include "offload/transfer.hpp"

namespace spillway::offload {

/// The open files that a ring's kernel side has looked up once, so that it need not at every transfer. A file is told to it when it is
/// first used; where that is refused (before Linux 5.19), or the table is full, transfers go by descriptor. Safe from several threads.
class UringFiles {
 public:
  /// \param ring  outlives this object
  explicit UringFiles(io_uring& ring)
      : ring_(ring), used_(io_uring_register_files_sparse(&ring, kFiles) < 0 ? 0 : kFiles) {}

  /// Has the entry name its file by place in the table, if it has one there; else it keeps the descriptor it was prepared with.
  void name_file(io_uring_sqe& entry, const TransferPlace& place) {
    const std::lock_guard lock(mutex_);
    const auto known = places_.find(place.id.value);
    const int index = known != places_.end() ? known->second : add(place);
    if (index < 0) return;
    entry.fd = index;
    entry.flags |= IOSQE_FIXED_FILE;
  }
  /// Before the file can be closed for good. None of its transfers is under way.
  void forget(FileId id) {
    const std::lock_guard lock(mutex_);
    const auto known = places_.find(id.value);
    if (known == places_.end()) return;
    int none = -1;
    // A place that is not given up keeps the file open until the ring goes; it is not used again.
    if (io_uring_register_files_update(&ring_, static_cast<unsigned>(known->second), &none, 1) == 1)
      used_[static_cast<std::size_t>(known->second)] = false;
    places_.erase(known);
  }

 private:
  static constexpr unsigned kFiles = 64;

  int add(const TransferPlace& place) {
    for (std::size_t index = 0; index < used_.size(); ++index) {
      if (used_[index]) continue;
      int descriptor = place.file->descriptor();
      if (io_uring_register_files_update(&ring_, static_cast<unsigned>(index), &descriptor, 1) != 1) return -1;
      used_[index] = true;
      return places_[place.id.value] = static_cast<int>(index);
    }
    return -1;
  }

  io_uring& ring_;
  std::mutex mutex_;
  std::vector<bool> used_;
  std::map<int, int> places_;  // of each file's number
};

}  // namespace spillway::offload
