// SPDX-License-Identifier: Apache-2.0
// Bytes a second of each store, 32 transfers in flight, on the disk of the working directory. Argument: MiB of a transfer.
// store_peers.py runs it beside fio.
#include <cstddef>
#include <cstdint>
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

/// One pass over the file, kDepth transfers in flight. In half_and_half every extent is read and then written, as in the state ring.
void pass(BlockStore& store, FileId file, Mix mix, std::span<std::byte> memory) {
  const std::size_t extent_bytes = memory.size() / kDepth, extents = kFile / extent_bytes;
  struct Slot {
    Completion transfer;
    std::optional<std::size_t> to_write;
  };
  std::vector<Slot> slots(kDepth);
  const std::size_t transfers = mix == Mix::half_and_half ? 2 * extents : extents;
  std::size_t started = 0, next_extent = 0;
  for (std::size_t i = 0; started < transfers; i = (i + 1) % kDepth) {
    Slot& slot = slots[i];
    const auto buffer = memory.subspan(i * extent_bytes, extent_bytes);
    slot.transfer.wait();
    if (const auto extent = std::exchange(slot.to_write, std::nullopt)) {
      slot.transfer = store.write(file, *extent * extent_bytes, buffer);
    } else if (next_extent == extents) {
      continue;
    } else if (mix == Mix::write) {
      slot.transfer = store.write(file, next_extent++ * extent_bytes, buffer);
    } else {
      if (mix == Mix::half_and_half) slot.to_write = next_extent;
      slot.transfer = store.read(file, next_extent++ * extent_bytes, buffer);
    }
    ++started;
  }
  for (Slot& slot : slots) slot.transfer.wait();
}

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
  const FileId file = store->open(directory.file("extents"), OpenMode::create_new, kFile);
  pass(*store, file, Mix::write, memory.span());  // so that reads meet written blocks

  for (auto _ : state) pass(*store, file, mix, memory.span());

  const auto passes = static_cast<std::int64_t>(state.iterations());
  const std::int64_t ways = mix == Mix::half_and_half ? 2 : 1;
  state.SetBytesProcessed(passes * ways * static_cast<std::int64_t>(kFile));
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
