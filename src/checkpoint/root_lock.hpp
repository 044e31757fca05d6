// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "checkpoint/files.hpp"

namespace spillway::checkpoint {

/// Keeps other runs from saving into a root folder, where they would remove each other's unfinished checkpoints. Held
/// until it is destroyed or its process ends, however that happens. Readers need no lock.
class RootLock {
 public:
  /// Makes the folder if it is not there and locks ROOT/lock, which stays and says who locked it last. Where the file
  /// system has no locks, a warning is all.
  /// \throws ConfigError naming the process that holds the lock, IoError if the file cannot be written
  explicit RootLock(const std::string& root);

 private:
  FileDescriptor file_;
};

}  // namespace spillway::checkpoint
