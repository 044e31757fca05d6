// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/root_lock.hpp"

#include <cerrno>
#include <ctime>
#include <system_error>

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include "checkpoint/layout.hpp"
#include "core/error.hpp"
#include "core/host_name.hpp"
#include "core/log.hpp"

namespace spillway::checkpoint {
namespace {

std::string this_process() {
  return fmt::format("process {} on {} since {:%Y-%m-%dT%H:%M:%SZ}", ::getpid(), host_name(),
                     fmt::gmtime(std::time(nullptr)));
}

/// False where the file system has no locks.
bool lock(const FileDescriptor& file, const std::string& root, const std::string& path) {
  int result = 0;
  do {
    result = ::flock(file.get(), LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return true;
  if (errno == EWOULDBLOCK) {
    const std::string holder = read_text(path);
    throw ConfigError(
        fmt::format("{}: another run saves its checkpoints here: {}; wait for its end or set another "
                    "checkpoint.dir",
                    root, holder.empty() ? "a process that is starting" : holder));
  }
  log::warning(fmt::format("{}: the file system has no locks ({}): make sure that no other run saves here", root,
                           std::generic_category().message(errno)));
  return false;
}

}  // namespace

RootLock::RootLock(const std::string& root) {
  std::error_code code;
  std::filesystem::create_directories(root, code);
  if (code) throw IoError(fmt::format("{}: making the folder failed", root), code.value());
  const std::string path = root + "/" + std::string(kLockFile);
  file_ = open_file(path, O_RDWR | O_CREAT);
  if (!lock(file_, root, path)) return;
  const std::string holder = this_process();
  if (::ftruncate(file_.get(), 0) != 0) throw IoError(path + ": writing failed", errno);
  write_fully(file_, path, 0, std::as_bytes(std::span(holder)));
}

}  // namespace spillway::checkpoint
