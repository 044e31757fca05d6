// SPDX-License-Identifier: Apache-2.0
#include "app/output_file.hpp"

#include <cerrno>
#include <filesystem>
#include <iostream>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/files.hpp"
#include "core/error.hpp"

namespace spillway::app {

namespace fs = std::filesystem;

OutputFile::OutputFile(std::string path) : name_(std::move(path)), written_(name_) {
  if (name_ == "-") return;
  std::error_code error;
  if (fs::is_directory(name_, error)) throw IoError(fmt::format("{}: cannot be written", name_), EISDIR);
  if (!fs::exists(name_, error) || fs::is_regular_file(name_, error)) {
    const fs::path real = fs::weakly_canonical(name_, error);  // of a link, what it points to
    path_ = error ? name_ : real.string();
    written_ = path_ + ".spillway-new";
  }
  errno = 0;
  file_.open(written_, std::ios::binary);
  if (file_) {
    struct stat replaced {};
    // A file system without modes has none to keep.
    if (!path_.empty() && ::stat(path_.c_str(), &replaced) == 0)
      (void)::chmod(written_.c_str(), replaced.st_mode & 07777);
    return;
  }
  path_.clear();
  throw IoError(fmt::format("{}: cannot be written", name_), errno);
}

OutputFile::~OutputFile() {
  if (!path_.empty()) ::unlink(written_.c_str());
}

void OutputFile::finish(const std::string& text) {
  if (name_ == "-") {
    std::cout << text << std::flush;
    return;
  }
  errno = 0;
  file_ << text;
  file_.close();
  if (!file_) throw IoError(fmt::format("{}: cannot be written", name_), errno);
  if (path_.empty()) return;
  checkpoint::sync_path(written_);
  checkpoint::rename_path(written_, path_);
  path_.clear();
}

}  // namespace spillway::app
