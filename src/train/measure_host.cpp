// SPDX-License-Identifier: Apache-2.0
#include "train/measure_host.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <exception>
#include <functional>
#include <thread>

#include <fmt/format.h>

#include "core/device.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "kernels/cpu/thread_pool.hpp"
#include "train/machine.hpp"

namespace spillway::train {
namespace {

using Clock = std::chrono::steady_clock;

/// The shortest of several, the first of which warms up.
double shortest_seconds(int times, const std::function<void()>& work) {
  work();
  double shortest = 1e9;
  for (int i = 0; i < times; ++i) {
    const auto start = Clock::now();
    work();
    shortest = std::min(shortest, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return shortest;
}

void fill(const Buffer& buffer, float value) {
  auto* const numbers = reinterpret_cast<float*>(buffer.data());
  std::fill_n(numbers, buffer.bytes() / sizeof(float), value);
}

/// Bytes a second that are read and written by copies of all threads.
double memory_rate(kernels::cpu::ThreadPool& pool, Device& host) {
  constexpr std::size_t kBytes = std::size_t{256} << 20, kChunk = std::size_t{1} << 20;
  const Buffer from = host.allocate(MemoryKind::device, kBytes), to = host.allocate(MemoryKind::device, kBytes);
  const double seconds = shortest_seconds(5, [&] {
    pool.parallel_for(kBytes / kChunk, [&](std::int64_t chunk) {
      const std::size_t at = static_cast<std::size_t>(chunk) * kChunk;
      std::memcpy(to.data() + at, from.data() + at, kChunk);
    });
  });
  return 2.0 * kBytes / seconds;
}

/// AdamW over so many parameters that no cache holds them.
class HostAdamW {
 public:
  static constexpr std::int64_t kParameters = std::int64_t{32} << 20;
  /// \param moments  what they are stored in: int8's codes have a scale for each kStateBlock of them
  /// \param split  weights in bf16 with their masters, and gradients in bf16, as there are beside a GPU
  HostAdamW(kernels::OptimizerOps& ops, Device& host, DType moments, bool split)
      : ops_(ops), moments_(moments), split_(split) {
    constexpr std::size_t kBytes = static_cast<std::size_t>(kParameters) * sizeof(float);
    for (std::size_t i = 0; i < buffers_.size(); ++i) {
      buffers_[i] = host.allocate(MemoryKind::device, i < 5 ? kBytes : kBytes / kernels::kStateBlock);
      fill(buffers_[i], 0.01F);
    }
  }
  /// Bytes that the update of a parameter reads and writes.
  [[nodiscard]] double bytes() const {
    const double moment = static_cast<double>(size_of(moments_));
    return split_ ? 10.0 + 4.0 * moment : 12.0 + 4.0 * moment;
  }
  void update(Queue& queue) {
    ops_.adamw(queue, {.parameter = {.weight = view(0, split_ ? DType::bf16 : DType::f32),
                                     .master = split_ ? view(4, DType::i16) : TensorView()},
                       .exp_avg = moment(1),
                       .exp_avg_sq = moment(2),
                       .gradient = view(3, split_ ? DType::bf16 : DType::f32),
                       .learning_rate = 1e-3});
  }

 private:
  [[nodiscard]] TensorView view(std::size_t i, DType dtype) const { return {buffers_[i].data(), dtype, {kParameters}}; }
  [[nodiscard]] kernels::StateView moment(std::size_t i) const {
    if (moments_ != DType::u8) return {.values = view(i, moments_), .scales = {}};
    return {.values = view(i, moments_),
            .scales = {buffers_[i + 4].data(), DType::f32, {kParameters / kernels::kStateBlock}}};
  }
  kernels::OptimizerOps& ops_;
  DType moments_;
  bool split_;
  std::array<Buffer, 7> buffers_;
};

double adamw_rate(kernels::OptimizerOps& ops, Device& host, Queue& queue, DType moments) {
  HostAdamW adamw(ops, host, moments, moments != DType::f32);
  return HostAdamW::kParameters / shortest_seconds(3, [&] { adamw.update(queue); });
}

double product_flops(kernels::ModelOps& ops, Device& host, Queue& queue) {
  constexpr std::int64_t kSize = 2048;
  const std::size_t bytes = static_cast<std::size_t>(kSize * kSize) * sizeof(float);
  std::array<Buffer, 3> buffers;
  for (Buffer& buffer : buffers) {
    buffer = host.allocate(MemoryKind::device, bytes);
    fill(buffer, 0.5F);
  }
  const auto view = [&](std::size_t i) { return TensorView(buffers[i].data(), DType::f32, {kSize, kSize}); };
  const double seconds = shortest_seconds(3, [&] { ops.linear(queue, {.x = view(0), .w = view(1), .y = view(2)}); });
  return 2.0 * kSize * kSize * kSize / seconds;
}

}  // namespace

plan::HostProfile measure_host(int threads) {
  const auto host = make_host_device();
  const auto queue = host->create_compute_queue();
  const auto pool = kernels::cpu::make_thread_pool(threads);
  plan::HostProfile profile{.memory_bytes = available_memory_bytes(), .cores = threads};
  const auto ops = kernels::cpu::make_optimizer_ops(pool);
  profile.adamw_rate = adamw_rate(*ops, *host, *queue, DType::f32);
  profile.adamw_bf16_rate = adamw_rate(*ops, *host, *queue, DType::bf16);
  profile.adamw_int8_rate = adamw_rate(*ops, *host, *queue, DType::u8);
  // Reading more than it writes, AdamW often gets more out of the memory than a copy.
  profile.memory_rate = std::max(memory_rate(*pool, *host), profile.adamw_rate * plan::kHostAdamWBytes);
  profile.product_flops = product_flops(*kernels::cpu::make_model_ops(pool), *host, *queue);
  profile.source = fmt::format(
      "measured with {} threads: a copy of 256 MiB, AdamW with all in fp32, and with bf16 weights and moments in bf16 "
      "and "
      "int8, beside a GPU with copies to and from it too, a product of 2048 cubed",
      threads);
  return profile;
}

double memory_rate_beside_copies(Device& device, int threads) {
  constexpr std::size_t kPiece = std::size_t{32} << 20, kPieces = 4;  // each way
  constexpr int kUpdates = 24;
  const auto host = make_host_device();
  const auto cpu = host->create_compute_queue(), up = device.create_compute_queue(),
             down = device.create_compute_queue();
  const auto ops = kernels::cpu::make_optimizer_ops(kernels::cpu::make_thread_pool(threads));
  HostAdamW adamw(*ops, *host, DType::f32, true);
  const Buffer there = device.allocate(MemoryKind::device, 2 * kPieces * kPiece);
  const Buffer here = device.allocate(MemoryKind::pinned_host, 2 * kPieces * kPiece);
  adamw.update(*cpu);
  std::atomic<bool> over = false;
  std::atomic<std::size_t> moved = 0;
  std::exception_ptr error;
  std::thread copies([&] {
    try {
      while (!over) {
        for (std::size_t piece = 0; piece < kPieces; ++piece) {
          const std::size_t of_up = piece * kPiece, of_down = (kPieces + piece) * kPiece;
          device.copy(*up, there.data() + of_up, here.data() + of_up, kPiece);
          device.copy(*down, here.data() + of_down, there.data() + of_down, kPiece);
        }
        up->synchronize();
        down->synchronize();
        moved += 2 * kPieces * kPiece;
      }
    } catch (...) {
      error = std::current_exception();
    }
  });
  const auto start = Clock::now();
  const std::size_t before = moved;
  for (int i = 0; i < kUpdates; ++i) adamw.update(*cpu);
  const std::size_t bytes = moved - before;
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  over = true;
  copies.join();
  if (error) std::rethrow_exception(error);
  return (static_cast<double>(bytes) + kUpdates * HostAdamW::kParameters * adamw.bytes()) / seconds;
}

}  // namespace spillway::train
