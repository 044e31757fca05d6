// SPDX-License-Identifier: Apache-2.0
#include "offload/scratch_file.hpp"

#include <cerrno>
#include <exception>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway::offload {
namespace {

constexpr const char* kFilePrefix = "extents-";

std::string reason(int error_number) { return std::generic_category().message(error_number); }

}  // namespace

ScratchFolder::ScratchFolder(const BlockStore& store, const std::string& directory, const std::string& name)
    : path_(directory + "/" + name), remove_(false) {
  if (!store.in_file_system()) return;
  struct statfs status {};
  if (::statfs(directory.c_str(), &status) != 0) {
    throw ConfigError("offload directory " + directory + " cannot be used: " + reason(errno));
  }
  if (status.f_type == TMPFS_MAGIC) {
    throw ConfigError("offload directory " + directory +
                      " is a tmpfs: what is offloaded there stays in memory; name a directory on a disk");
  }
  while (!make(directory)) {
  }
  remove_ = true;
}

/// False if somebody took the new folder for an abandoned one before it was locked.
bool ScratchFolder::make(const std::string& directory) {
  if (::mkdir(path_.c_str(), 0700) != 0) {
    const int error = errno;
    if (error == EEXIST) {
      throw ConfigError("offload directory " + directory + ": " + path_ +
                        " is there already: remove it if no run uses it any more");
    }
    throw ConfigError("offload directory " + directory + " cannot be written: " + reason(error));
  }
  lock_ = Descriptor(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (lock_.get() < 0) return errno != ENOENT;
  if (::flock(lock_.get(), LOCK_EX) != 0) return true;
  struct stat status {};
  return ::fstat(lock_.get(), &status) == 0 && status.st_nlink > 0;
}

ScratchFolder::ScratchFolder(ScratchFolder&& other) noexcept
    : path_(std::move(other.path_)), lock_(std::move(other.lock_)), remove_(std::exchange(other.remove_, false)) {}

ScratchFolder::~ScratchFolder() {
  if (remove_ && ::rmdir(path_.c_str()) != 0) {
    log::warning("offload: cannot remove the folder " + path_ + ": " + reason(errno));
  }
}

std::vector<std::string> remove_abandoned_folders(const std::string& directory, const std::string& prefix) {
  namespace fs = std::filesystem;
  std::vector<std::string> removed;
  std::error_code error;
  std::vector<fs::path> candidates;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error))
    if (entry->path().filename().string().starts_with(prefix)) candidates.push_back(entry->path());
  for (const fs::path& folder : candidates) {
    const Descriptor lock(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (lock.get() < 0 || ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) continue;
    std::vector<fs::path> files;
    std::error_code unreadable;
    for (fs::directory_iterator entry(folder, unreadable), end; !unreadable && entry != end;
         entry.increment(unreadable))
      if (entry->path().filename().string().starts_with(kFilePrefix)) files.push_back(entry->path());
    for (const fs::path& file : files) ::unlink(file.c_str());
    if (::rmdir(folder.c_str()) == 0) removed.push_back(folder.string());
  }
  return removed;
}

ScratchFile::ScratchFile(BlockStore& store, std::string path, std::uint64_t bytes)
    : store_(&store), path_(std::move(path)), id_(store.open(path_, OpenMode::create_new, bytes)) {}

ScratchFile::ScratchFile(ScratchFile&& other) noexcept
    : store_(std::exchange(other.store_, nullptr)), path_(std::move(other.path_)), id_(other.id_) {}

ScratchFile::~ScratchFile() {
  if (store_ == nullptr) return;
  try {
    store_->close(id_, false);
  } catch (const std::exception& error) {
    log::warning("offload: " + std::string(error.what()));
  }
  if (store_->in_file_system() && ::unlink(path_.c_str()) != 0) {
    log::warning("offload: cannot remove " + path_ + ": " + reason(errno));
  }
}

}  // namespace spillway::offload
