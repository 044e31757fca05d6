// SPDX-License-Identifier: Apache-2.0
// What overlap hides: seconds of a step on two ranks (threads) with ZeRO stage 3 and moments on "nvme", over a store and a network
// that take a fixed time longer, once as it is and once with a wait wherever something is started.
//   hidden: (waiting - overlapped) / added latency. At least 0.5 is asked for.
#include <algorithm>
#include <chrono>
#include <memory>
#include <string>

#include <benchmark/benchmark.h>

#include "core/log.hpp"
#include "support/delayed_communicator.hpp"
#include "support/faulty_store.hpp"
#include "support/scratch_directory.hpp"
#include "support/thread_ranks.hpp"
#include "train/trainee.hpp"

namespace spillway::test {
namespace {

using Microseconds = std::chrono::microseconds;

constexpr int kRanks = 2, kSteps = 5, kTurns = 3;

struct Latency {
  Microseconds network{0}, store{0};
};

/// Of one step of one rank.
struct Measured {
  double seconds = 0.0;
  double added = 0.0;  // latency, if nothing of it overlapped anything
};

/// A communicator that somebody else owns.
class BorrowedCommunicator final : public comm::Communicator {
 public:
  explicit BorrowedCommunicator(comm::Communicator& owned) : owned_(owned) {}
  [[nodiscard]] int rank() const noexcept override { return owned_.rank(); }
  [[nodiscard]] int size() const noexcept override { return owned_.size(); }
  [[nodiscard]] Event all_gather(const Event& after, ConstTensorView shard, TensorView full) override {
    ++collectives_;
    return owned_.all_gather(after, shard, full);
  }
  [[nodiscard]] Event reduce_scatter(const Event& after, ConstTensorView full, TensorView shard,
                                     std::span<const int> piece_of_rank) override {
    ++collectives_;
    return owned_.reduce_scatter(after, full, shard, piece_of_rank);
  }
  void reserve(std::size_t piece_bytes) override { owned_.reserve(piece_bytes); }
  [[nodiscard]] Event broadcast(const Event& after, TensorView tensor, int root) override {
    return owned_.broadcast(after, tensor, root);
  }
  void barrier() override { owned_.barrier(); }
  [[nodiscard]] std::vector<std::vector<std::byte>> exchange(std::span<const std::byte> bytes) override {
    return owned_.exchange(bytes);
  }
  [[nodiscard]] std::unique_ptr<comm::Communicator> split(int color, int key) override {
    return owned_.split(color, key);
  }
  [[nodiscard]] comm::Watchdog& watchdog() noexcept override { return owned_.watchdog(); }
  [[nodiscard]] std::uint64_t bytes_sent() const noexcept override { return owned_.bytes_sent(); }
  void abort(int exit_code, const std::string& reason) noexcept override { owned_.abort(exit_code, reason); }
  [[nodiscard]] int collectives() const noexcept { return collectives_; }

 private:
  comm::Communicator& owned_;
  int collectives_ = 0;
};

Measured measure(const train::RunOptions& options, const Latency& latency, bool wait_at_once) {
  Measured measured;
  run_on_thread_ranks(kRanks, [&](comm::Communicator& group) {
    auto counted = std::make_unique<BorrowedCommunicator>(group);
    const BorrowedCommunicator& counter = *counted;
    DelayedCommunicator network(std::move(counted), latency.network);
    const auto memory = offload::make_memory_store();
    auto store = std::make_unique<FaultyStore>(*memory, Faults{.latency = latency.store});
    Trainee trainee(options, network, {.wait_at_once = wait_at_once, .store = std::move(store)});
    trainee.step();
    const int collectives = counter.collectives();
    const offload::StoreCounters before = trainee.engine().store()->counters();
    std::chrono::duration<double> least = std::chrono::hours(1);  // the step that other processes disturbed least
    for (int step = 0; step < kSteps; ++step) {
      const auto start = std::chrono::steady_clock::now();
      trainee.step();
      least = std::min<std::chrono::duration<double>>(least, std::chrono::steady_clock::now() - start);
    }
    trainee.engine().finish_update();
    if (group.rank() != 0) return;
    const offload::StoreCounters after = trainee.engine().store()->counters();
    // The two kinds of an extent go at once even where everything is waited for.
    const double transfers = static_cast<double>(after.reads - before.reads + after.writes - before.writes) / 2.0;
    const std::chrono::duration<double> added =
        latency.store * transfers + latency.network * (counter.collectives() - collectives);
    measured = {least.count(), added.count() / kSteps};
  });
  return measured;
}

Measured better(const Measured& before, const Measured& now) {
  return before.seconds > 0.0 && before.seconds < now.seconds ? before : now;
}

void overlap(benchmark::State& state, const Latency& latency) {
  log::quiet();
  const ScratchDirectory folder;
  write_training_folder(folder.path(), {.d_model = 256, .d_kv = 32, .heads = 8, .d_ff = 512, .layers = 3}, 64, 20);
  train::RunOptions options = training_options(folder.path());
  options.train.per_device_train_batch_size = 4;
  options.train.global_batch_size = 16;
  options.offload.placement = train::TierChoice::nvme;
  options.offload.store = train::StoreChoice::memory;
  options.offload.extent_size = std::size_t{512} << 10;
  Measured overlapped, waiting;
  for (auto _ : state) {
    // In turn, so that what else the machine does hits both alike.
    for (int turn = 0; turn < kTurns; ++turn) {
      overlapped = better(overlapped, measure(options, latency, false));
      waiting = better(waiting, measure(options, latency, true));
    }
    state.SetIterationTime(overlapped.seconds);
  }
  state.counters["overlapped_s"] = overlapped.seconds;
  state.counters["waiting_s"] = waiting.seconds;
  state.counters["added_s"] = waiting.added;
  if (waiting.added > 0.0) state.counters["hidden"] = (waiting.seconds - overlapped.seconds) / waiting.added;
}

BENCHMARK_CAPTURE(overlap, no_latency, Latency{})->Iterations(1)->UseManualTime();
BENCHMARK_CAPTURE(overlap, network_5ms, Latency{.network = Microseconds{5000}})->Iterations(1)->UseManualTime();
BENCHMARK_CAPTURE(overlap, store_5ms, Latency{.store = Microseconds{5000}})->Iterations(1)->UseManualTime();
BENCHMARK_CAPTURE(overlap, network_and_store_5ms, Latency{.network = Microseconds{5000}, .store = Microseconds{5000}})
    ->Iterations(1)
    ->UseManualTime();

}  // namespace
}  // namespace spillway::test
