// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include <liburing.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/error.hpp"
#include "core/log.hpp"
#include "core/unique_handle.hpp"
#include "offload/block_store.hpp"
#include "offload/file_store.hpp"
#include "offload/uring_files.hpp"

namespace spillway::offload {
namespace {

constexpr unsigned kMaxRegistered = 64;                  // pieces of registered memory in one ring
constexpr std::size_t kMaxRegisteredBytes = 1ull << 30;  // of one piece: the kernel's limit

struct RingTraits {
  using Handle = io_uring*;
  static Handle null() noexcept { return nullptr; }
  static void destroy(Handle ring) noexcept {
    io_uring_queue_exit(ring);
    delete ring;
  }
};
using Ring = UniqueHandle<RingTraits>;

std::string locked_memory_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "";
  return " (this process may lock " + std::to_string(limit.rlim_cur) + " bytes: ulimit -l)";
}

Ring make_ring(int depth) {
  auto ring = std::make_unique<io_uring>();
  const int result = io_uring_queue_init(static_cast<unsigned>(depth), ring.get(), 0);
  if (result == -ENOMEM) throw IoError("io_uring_setup refused" + locked_memory_limit(), ENOMEM);
  if (result < 0) throw IoError("io_uring_setup refused", -result);
  return Ring(ring.release());
}

void check_features(io_uring& ring) {
  if ((ring.features & IORING_FEAT_NODROP) == 0) throw IoError("this kernel's io_uring may drop completions");
  const std::unique_ptr<io_uring_probe, void (*)(io_uring_probe*)> probe(io_uring_get_probe_ring(&ring),
                                                                         io_uring_free_probe);
  if (!probe) throw IoError("this kernel's io_uring cannot be asked for its operations");
  const std::pair<int, const char*> needed[] = {{IORING_OP_READ, "READ"},
                                                {IORING_OP_WRITE, "WRITE"},
                                                {IORING_OP_READ_FIXED, "READ_FIXED"},
                                                {IORING_OP_WRITE_FIXED, "WRITE_FIXED"}};
  for (const auto& [operation, name] : needed) {
    if (io_uring_opcode_supported(probe.get(), operation) == 0) {
      throw IoError("this kernel's io_uring lacks the operation " + std::string(name));
    }
  }
}

Descriptor make_bell(io_uring& ring) {
  Descriptor bell(::eventfd(0, EFD_CLOEXEC));
  if (!bell) throw IoError("eventfd failed", errno);
  if (const int result = io_uring_register_eventfd(&ring, bell.get()); result < 0) {
    throw IoError("io_uring does not take an eventfd", -result);
  }
  return bell;
}

/// One thread owns the ring: it alone submits and reaps, because the kernel cancels what a thread has submitted when
/// that thread ends, and callers' threads come and go. A bell (eventfd) wakes it for new transfers and completions.
class UringStore final : public FileStore {
 public:
  explicit UringStore(const StoreOptions& store_options)
      : FileStore(store_options), ring_(make_ring(options().queue_depth)), files_(*ring_.get()) {
    check_features(*ring_.get());
    bell_ = make_bell(*ring_.get());
    server_ = std::thread([this] { serve(); });
  }

  ~UringStore() override {
    wait_until_idle();
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    ring_bell();
    server_.join();
  }

  void close(FileId file, bool sync) override {
    FileStore::close(file, sync);
    files_.forget(file);
  }

  bool register_buffer(std::span<std::byte> memory) override {
    const std::lock_guard lock(mutex_);
    if (!has_table_) {
      // A sparse table (Linux 5.19), because buffers are announced one by one.
      if (!accepted(io_uring_register_buffers_sparse(ring_.get(), kMaxRegistered), memory)) return false;
      has_table_ = true;
    }
    // A transfer across the edge of two pieces goes without; the pieces before a refused one stay useful.
    for (std::size_t begin = 0; begin < memory.size(); begin += kMaxRegisteredBytes) {
      const auto piece = memory.subspan(begin, std::min(kMaxRegisteredBytes, memory.size() - begin));
      const auto index = static_cast<unsigned>(registered_.size());
      const iovec vector{.iov_base = piece.data(), .iov_len = piece.size()};
      const int result = index < kMaxRegistered
                             ? io_uring_register_buffers_update_tag(ring_.get(), index, &vector, nullptr, 1)
                             : -ENOBUFS;
      if (!accepted(result, memory)) return false;
      registered_.push_back(piece);
    }
    return true;
  }

 private:
  [[nodiscard]] std::string name() const override { return "uring"; }

  static bool accepted(int result, std::span<std::byte> memory) {
    if (result >= 0) return true;
    const IoError refusal("io_uring does not register " + std::to_string(memory.size()) + " bytes" +
                              (result == -ENOMEM ? locked_memory_limit() : ""),
                          -result);
    log::info("storage: " + std::string(refusal.what()) + "; they are used unregistered");
    return false;
  }

  void start(std::shared_ptr<Transfer> transfer) override {
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(std::move(transfer));
    }
    ring_bell();
  }

  void ring_bell() const {
    // Only a full counter or a signal can make this fail; a full counter means that the bell is ringing already.
    while (::eventfd_write(bell_.get(), 1) != 0 && errno == EINTR) {
    }
  }

  void serve() {
    for (bool stopping = false; !stopping;) {
      eventfd_t rings = 0;
      while (::eventfd_read(bell_.get(), &rings) != 0 && errno == EINTR) {
      }
      std::vector<std::shared_ptr<Transfer>> fresh;
      {
        const std::lock_guard lock(mutex_);
        fresh.swap(waiting_);
        stopping = stopping_;
      }
      for (auto& transfer : fresh) {
        Transfer& one = *transfer;
        under_way_.emplace(&one, std::move(transfer));
        prepare(one);
      }
      reap();
      submit();
    }
  }

  void prepare(Transfer& transfer) {
    if (broken_ == 0) fill_entry(transfer);
    prepared_.push_back(&transfer);
  }

  /// Puts a transfer's next call into the ring, which has room: it has an entry for each transfer there can be.
  void fill_entry(Transfer& transfer) {
    const auto rest = transfer.rest(options().call_bytes);
    const auto bytes = static_cast<unsigned>(rest.size());
    const int descriptor = transfer.place().file->descriptor();
    const std::uint64_t offset = transfer.rest_offset();
    const bool is_read = transfer.direction() == Direction::read;
    const int index = registered_index(rest);
    io_uring_sqe* entry = io_uring_get_sqe(ring_.get());
    if (is_read && index >= 0) io_uring_prep_read_fixed(entry, descriptor, rest.data(), bytes, offset, index);
    else if (is_read) io_uring_prep_read(entry, descriptor, rest.data(), bytes, offset);
    else if (index >= 0) io_uring_prep_write_fixed(entry, descriptor, rest.data(), bytes, offset, index);
    else io_uring_prep_write(entry, descriptor, rest.data(), bytes, offset);
    files_.name_file(*entry, transfer.place());
    io_uring_sqe_set_data(entry, &transfer);
  }

  [[nodiscard]] int registered_index(std::span<const std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < registered_.size(); ++i) {
      const auto piece = registered_[i];
      if (bytes.data() >= piece.data() && bytes.data() + bytes.size() <= piece.data() + piece.size()) {
        return static_cast<int>(i);
      }
    }
    return -1;
  }

  void submit() {
    while (!prepared_.empty()) {
      const int result = broken_ != 0 ? -broken_ : io_uring_submit(ring_.get());
      if (result >= 0) {
        prepared_.erase(prepared_.begin(), prepared_.begin() + result);
      } else if (result == -EAGAIN || result == -EBUSY) {
        // The kernel is short of memory for requests: those under way must end first.
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        reap();
      } else if (result != -EINTR) {
        // What lies in the ring cannot be taken out again, so nothing may ever be submitted to it any more.
        broken_ = -result;
        for (Transfer* transfer : std::exchange(prepared_, {})) {
          transfer->fail(": io_uring refuses every transfer", broken_);
          end(transfer);
        }
      }
    }
  }

  void reap() {
    io_uring_cqe* completion = nullptr;
    while (io_uring_peek_cqe(ring_.get(), &completion) == 0) {
      auto* transfer = static_cast<Transfer*>(io_uring_cqe_get_data(completion));
      const int result = completion->res;
      io_uring_cqe_seen(ring_.get(), completion);
      if (transfer->advance(result) == Transfer::Progress::more) prepare(*transfer);
      else end(transfer);
    }
  }

  void end(Transfer* transfer) { finished(under_way_.extract(transfer).mapped()); }

  Ring ring_;
  UringFiles files_;
  Descriptor bell_;
  std::mutex mutex_;  // of the next four
  std::vector<std::shared_ptr<Transfer>> waiting_;
  bool stopping_ = false;
  bool has_table_ = false;
  std::vector<std::span<std::byte>> registered_;
  // The server's own: what the ring has, and of that what is prepared but not yet submitted, in order.
  std::unordered_map<Transfer*, std::shared_ptr<Transfer>> under_way_;
  std::vector<Transfer*> prepared_;
  int broken_ = 0;
  std::thread server_;
};

}  // namespace

std::unique_ptr<BlockStore> make_uring_store(const StoreOptions& options) {
  return std::make_unique<UringStore>(options);
}

bool uring_compiled() noexcept { return true; }

}  // namespace spillway::offload
