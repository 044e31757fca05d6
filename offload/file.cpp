// SPDX-License-Identifier: Apache-2.0
#include "offload/file.hpp"

#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway::offload {
namespace {

Descriptor open_file(const std::string& path, OpenMode mode) {
  const int access = mode == OpenMode::read_existing ? O_RDONLY : O_RDWR;
  const int flags = access | O_CLOEXEC | (mode == OpenMode::create_new ? O_CREAT | O_EXCL : 0);
  int descriptor = -1;
  do {
    descriptor = ::open(path.c_str(), flags, 0600);
  } while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) {
    throw IoError(path + ": cannot be " + (mode == OpenMode::create_new ? "created" : "opened"), errno);
  }
  return Descriptor(descriptor);
}

void reserve(int descriptor, const std::string& path, std::uint64_t bytes) {
  int error = 0;
  do {
    error = ::posix_fallocate(descriptor, 0, static_cast<off_t>(bytes));
  } while (error == EINTR);
  if (error != 0) throw IoError(path + ": cannot reserve " + std::to_string(bytes) + " bytes", error);
}

// File systems that know say so (Linux 6.1); of the others, 4 KiB is enough for every disk in use.
bool wants_more_than(std::size_t alignment, int descriptor) {
  struct statx status {};
  if (::statx(descriptor, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) != 0) return false;
  if ((status.stx_mask & STATX_DIOALIGN) == 0) return false;
  return status.stx_dio_mem_align == 0 || status.stx_dio_mem_align > alignment ||
         status.stx_dio_offset_align > alignment;
}

bool make_direct(int descriptor) {
  if (wants_more_than(kDirectAlignment, descriptor)) return false;
  const int flags = ::fcntl(descriptor, F_GETFL);
  return flags >= 0 && ::fcntl(descriptor, F_SETFL, flags | O_DIRECT) == 0;
}

}  // namespace

void DescriptorTraits::destroy(Handle descriptor) noexcept {
  // Linux closes it even when it answers EINTR; who needs the bytes to be safe calls sync() before.
  if (::close(descriptor) != 0 && errno != EINTR) {
    log::warning("offload: close failed: " + std::generic_category().message(errno));
  }
}

File::File(std::string path, OpenMode mode, std::uint64_t bytes, bool direct)
    : path_(std::move(path)), descriptor_(open_file(path_, mode)) {
  if (bytes != 0) {
    try {
      reserve(descriptor_.get(), path_, bytes);
    } catch (const IoError&) {
      if (mode == OpenMode::create_new) ::unlink(path_.c_str());
      throw;
    }
  }
  // After the reservation: where the file system has none, glibc writes single bytes, which O_DIRECT would refuse. And
  // not in open(): a file system without O_DIRECT would create the file and then refuse it.
  if (direct && make_direct(descriptor_.get())) alignment_ = kDirectAlignment;
}

void File::sync() {
  int result = 0;
  do {
    result = ::fsync(descriptor_.get());
  } while (result != 0 && errno == EINTR);
  if (result != 0) throw IoError(path_ + ": fsync failed", errno);
}

}  // namespace spillway::offload
