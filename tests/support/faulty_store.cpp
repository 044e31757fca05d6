// SPDX-License-Identifier: Apache-2.0
#include "support/faulty_store.hpp"

#include <memory>
#include <thread>
#include <utility>

#include "core/error.hpp"

namespace spillway::test {
namespace {

using Clock = std::chrono::steady_clock;

/// A transfer of the store beneath, if it was started, and what goes wrong with it.
class FaultyTransfer final : public offload::Completion::State {
 public:
  struct Fault {
    Clock::time_point earliest_end;
    std::string failure;  // thrown if not empty
    int error_number = 0;
    std::byte* flipped = nullptr;
  };

  FaultyTransfer(offload::Completion transfer, Fault fault)
      : transfer_(std::move(transfer)), fault_(std::move(fault)) {}

  void wait() override {
    transfer_.wait();
    std::this_thread::sleep_until(fault_.earliest_end);
    if (!fault_.failure.empty()) throw IoError(fault_.failure, fault_.error_number);
    if (auto* byte = std::exchange(fault_.flipped, nullptr)) *byte ^= std::byte{1};
  }

  [[nodiscard]] bool ready() override { return transfer_.ready() && Clock::now() >= fault_.earliest_end; }

 private:
  offload::Completion transfer_;
  Fault fault_;
};

}  // namespace

offload::FileId FaultyStore::open(const std::string& path, offload::OpenMode mode, std::uint64_t bytes) {
  const auto file = store_.open(path, mode, bytes);
  const std::lock_guard lock(mutex_);
  paths_[file.value] = path;
  return file;
}

void FaultyStore::close(offload::FileId file, bool sync) { store_.close(file, sync); }

offload::Completion FaultyStore::read(offload::FileId file, std::uint64_t offset_bytes, std::span<std::byte> buffer) {
  FaultyTransfer::Fault fault;
  {
    const std::lock_guard lock(mutex_);
    const int number = reads_++;
    fault.earliest_end = Clock::now() + faults_.latency;
    fault.error_number = faults_.error_number;
    if (faults_.failing_read == number) fault.failure = failure("read", file, offset_bytes, buffer.size());
    if (faults_.corrupted_read == number) fault.flipped = &buffer[faults_.corrupted_byte];
  }
  auto transfer = fault.failure.empty() ? store_.read(file, offset_bytes, buffer) : offload::Completion();
  return offload::Completion(std::make_shared<FaultyTransfer>(std::move(transfer), std::move(fault)));
}

offload::Completion FaultyStore::write(offload::FileId file, std::uint64_t offset_bytes,
                                       std::span<const std::byte> buffer) {
  FaultyTransfer::Fault fault;
  {
    const std::lock_guard lock(mutex_);
    fault.earliest_end = Clock::now() + faults_.latency;
    fault.error_number = faults_.error_number;
    if (faults_.failing_write == writes_++) fault.failure = failure("write", file, offset_bytes, buffer.size());
  }
  auto transfer = fault.failure.empty() ? store_.write(file, offset_bytes, buffer) : offload::Completion();
  return offload::Completion(std::make_shared<FaultyTransfer>(std::move(transfer), std::move(fault)));
}

void FaultyStore::set_faults(Faults faults) {
  const std::lock_guard lock(mutex_);
  faults_ = faults;
  reads_ = writes_ = 0;
}

std::string FaultyStore::failure(const char* verb, offload::FileId file, std::uint64_t offset_bytes,
                                 std::size_t bytes) const {
  return paths_.at(file.value) + ": " + verb + " of " + std::to_string(bytes) + " bytes at offset " +
         std::to_string(offset_bytes) + " failed on purpose";
}

}  // namespace spillway::test
