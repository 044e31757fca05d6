// SPDX-License-Identifier: Apache-2.0
#include "offload/scratch_file.hpp"

#include <cerrno>
#include <exception>
#include <system_error>
#include <utility>

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway::offload {
namespace {

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
  if (::mkdir(path_.c_str(), 0700) != 0) {
    const int error = errno;
    if (error == EEXIST) {
      throw ConfigError("offload directory " + directory + ": " + path_ +
                        " is there already: remove it if no run uses it any more");
    }
    throw ConfigError("offload directory " + directory + " cannot be written: " + reason(error));
  }
  remove_ = true;
}

ScratchFolder::ScratchFolder(ScratchFolder&& other) noexcept
    : path_(std::move(other.path_)), remove_(std::exchange(other.remove_, false)) {}

ScratchFolder::~ScratchFolder() {
  if (remove_ && ::rmdir(path_.c_str()) != 0) {
    log::warning("offload: cannot remove the folder " + path_ + ": " + reason(errno));
  }
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
