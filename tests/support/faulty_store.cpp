// SPDX-License-Identifier: Apache-2.0
#include "support/faulty_store.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "core/philox.hpp"

namespace spillway::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kStall{3};

/// A transfer of the store beneath, if it was started, and what goes wrong with it.
class FaultyTransfer final : public offload::Completion::State {
 public:
  struct Fault {
    Clock::time_point earliest_end;
    std::string failure;  // thrown if not empty
    int error_number = 0;
    std::byte* flipped = nullptr;
    std::byte* restored = nullptr;     // a part of the buffer that the transfer did not reach,
    std::vector<std::byte> before{};   // and what it held before
    std::vector<std::byte> written{};  // instead of what the caller gave
  };

  FaultyTransfer(offload::Completion transfer, Fault fault)
      : fault_(std::move(fault)), transfer_(std::move(transfer)) {}

  void wait() override {
    transfer_.wait();
    std::this_thread::sleep_until(fault_.earliest_end);
    if (!fault_.failure.empty()) throw IoError(fault_.failure, fault_.error_number);
    if (auto* byte = std::exchange(fault_.flipped, nullptr)) *byte ^= std::byte{1};
    if (auto* part = std::exchange(fault_.restored, nullptr))
      std::memcpy(part, fault_.before.data(), fault_.before.size());
  }

  [[nodiscard]] bool ready() override { return transfer_.ready() && Clock::now() >= fault_.earliest_end; }

 private:
  Fault fault_;
  offload::Completion transfer_;  // last: it waits at its end, and reads what the fault holds
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
    std::uint64_t draws = 0;
    const RandomFault random = draw(draws);
    const std::size_t place = draws % buffer.size();
    if (random == RandomFault::failed) fault.failure = failure("read", file, offset_bytes, buffer.size());
    if (random == RandomFault::stalled) fault.earliest_end += kStall;
    if (random == RandomFault::corrupted) fault.flipped = &buffer[place];
    if (random == RandomFault::shortened) {
      fault.restored = &buffer[place];
      fault.before.assign(buffer.begin() + static_cast<std::ptrdiff_t>(place), buffer.end());
    }
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
    std::uint64_t draws = 0;
    const RandomFault random = draw(draws);
    const std::size_t place = draws % buffer.size();
    if (random == RandomFault::failed) fault.failure = failure("write", file, offset_bytes, buffer.size());
    if (random == RandomFault::stalled) fault.earliest_end += kStall;
    if (random == RandomFault::corrupted || random == RandomFault::shortened)
      fault.written.assign(buffer.begin(), buffer.end());
    if (random == RandomFault::corrupted) fault.written[place] ^= std::byte{1};
    if (random == RandomFault::shortened) {  // what is in the file stays behind the part that is written
      store_.read(file, offset_bytes, fault.written).wait();
      std::copy_n(buffer.begin(), place, fault.written.begin());
    }
    if (!fault.written.empty()) buffer = fault.written;
  }
  auto transfer = fault.failure.empty() ? store_.write(file, offset_bytes, buffer) : offload::Completion();
  return offload::Completion(std::make_shared<FaultyTransfer>(std::move(transfer), std::move(fault)));
}

void FaultyStore::set_faults(Faults faults) {
  const std::lock_guard lock(mutex_);
  faults_ = faults;
  reads_ = writes_ = 0;
}

RandomFault FaultyStore::draw(std::uint64_t& draws) {
  if (faults_.random_rate <= 0.0) return RandomFault::none;
  PhiloxStream stream(faults_.random_seed, transfers_++);
  constexpr double kAll = 4294967296.0;
  if (stream.next() >= faults_.random_rate * kAll) return RandomFault::none;
  const auto fault = static_cast<RandomFault>(1 + stream.below(4));
  draws = stream.next();
  return fault;
}

std::string FaultyStore::failure(const char* verb, offload::FileId file, std::uint64_t offset_bytes,
                                 std::size_t bytes) const {
  return paths_.at(file.value) + ": " + verb + " of " + std::to_string(bytes) + " bytes at offset " +
         std::to_string(offset_bytes) + " failed on purpose";
}

}  // namespace spillway::test
