// SPDX-License-Identifier: Apache-2.0
// Bytes a second of each store, 32 transfers in flight, on the disk of the working directory. Argument: MiB of a transfer.
// store_peers.py runs it beside fio, on fio's file: STORE_BENCH_FILE, at least 1 GiB, which is overwritten.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include "core/error.hpp"
#include "offload/block_store.hpp"
#include "support/scratch_directory.hpp"

namespace spillway::offload {
namespace {

constexpr std::size_t kFile = std::size_t{1} << 30, kDepth = 32;

enum class Mix { read, write, half_and_half };

/// Transfers over the file again and again, kDepth in flight. In half_and_half every extent is read and then written, as in the state
/// ring.
class Stream {
 public:
  Stream(BlockStore& store, FileId file, Mix mix, std::span<std::byte> memory)
      : store_(store), file_(file), mix_(mix), memory_(memory), extent_bytes_(memory.size() / kDepth) {
    for (std::size_t i = 0; i < kDepth; ++i) next();
  }
  /// Waits for a transfer, that which has been under way longest if none has ended, and starts another in its place.
  void next() {
    std::size_t ended = turn_;
    for (std::size_t i = 0; i < kDepth && !slots_[ended].transfer.ready(); ++i) ended = (ended + 1) % kDepth;
    if (ended == turn_) turn_ = (turn_ + 1) % kDepth;
    Slot& slot = slots_[ended];
    const auto buffer = memory_.subspan(ended * extent_bytes_, extent_bytes_);
    slot.transfer.wait();
    if (const auto extent = std::exchange(slot.to_write, std::nullopt)) {
      slot.transfer = store_.write(file_, *extent * extent_bytes_, buffer);
      return;
    }
    const std::size_t extent = extent_++ % (kFile / extent_bytes_);
    if (mix_ == Mix::half_and_half) slot.to_write = extent;
    slot.transfer = mix_ == Mix::write ? store_.write(file_, extent * extent_bytes_, buffer)
                                       : store_.read(file_, extent * extent_bytes_, buffer);
  }
  /// Once over the whole file.
  void pass() {
    for (std::size_t i = 0; i < kFile / extent_bytes_; ++i) next();
  }

 private:
  struct Slot {
    Completion transfer;
    std::optional<std::size_t> to_write;
  };
  BlockStore& store_;
  FileId file_;
  Mix mix_;
  std::span<std::byte> memory_;
  std::size_t extent_bytes_, extent_ = 0, turn_ = 0;
  std::vector<Slot> slots_ = std::vector<Slot>(kDepth);
};

void store_throughput(benchmark::State& state, const std::string& name, Mix mix) {
  const test::ScratchDirectory directory;
  std::unique_ptr<BlockStore> store;
  try {
    store = make_store(name, {.queue_depth = kDepth});
  } catch (const Error& error) {
    state.SkipWithError(error.what());
    return;
  }
  const test::AlignedBytes memory(kDepth * static_cast<std::size_t>(state.range(0)) << 20, 1);
  store->register_buffer(memory.span());
  const char* const given = std::getenv("STORE_BENCH_FILE");
  const FileId file = given != nullptr ? store->open(given, OpenMode::open_existing, 0)
                                       : store->open(directory.file("extents"), OpenMode::create_new, kFile);
  // So that reads meet written blocks.
  if (given == nullptr) Stream(*store, file, Mix::write, memory.span()).pass();

  Stream stream(*store, file, mix, memory.span());
  for (auto _ : state) stream.next();

  state.SetBytesProcessed(state.iterations() * (state.range(0) << 20));
  state.SetLabel(store->description());
}

void sizes(benchmark::internal::Benchmark* benchmark) { benchmark->Arg(1)->Arg(4)->Arg(16)->UseRealTime(); }

BENCHMARK_CAPTURE(store_throughput, posix_read, "posix", Mix::read)->Apply(sizes);
BENCHMARK_CAPTURE(store_throughput, posix_write, "posix", Mix::write)->Apply(sizes);
BENCHMARK_CAPTURE(store_throughput, posix_mixed, "posix", Mix::half_and_half)->Apply(sizes);
BENCHMARK_CAPTURE(store_throughput, uring_read, "uring", Mix::read)->Apply(sizes);
BENCHMARK_CAPTURE(store_throughput, uring_write, "uring", Mix::write)->Apply(sizes);
BENCHMARK_CAPTURE(store_throughput, uring_mixed, "uring", Mix::half_and_half)->Apply(sizes);

}  // namespace
}  // namespace spillway::offload
