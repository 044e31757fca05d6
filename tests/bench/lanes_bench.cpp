// SPDX-License-Identifier: Apache-2.0
// What updates on the CPU and state on its way over the link do to each other: both use host memory. Each alone, and both at once, for
// some seconds:
//   lanes_bench [THREADS]
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "core/cuda_device.hpp"
#include "kernels/cpu/adamw.hpp"

namespace spillway {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kPiece = std::size_t{16} << 20;    // of one copy
constexpr std::size_t kStream = std::size_t{1} << 30;    // copied each way before the same memory comes again
constexpr std::int64_t kExtent = std::int64_t{4} << 20;  // elements of one update
constexpr int kExtents = 16;
constexpr double kSeconds = 1.5;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Copies up and down at once.
class Link {
 public:
  explicit Link(Device& device)
      : device_(device),
        on_host_(device.allocate(MemoryKind::pinned_host, 2 * kStream)),
        on_device_(device.allocate(MemoryKind::device, 2 * kPiece)),
        up_(device.create_compute_queue()),
        down_(device.create_compute_queue()) {}
  /// A gigabyte each way; waits for it.
  void pass() {
    for (std::size_t begin = 0; begin < kStream; begin += kPiece) {
      device_.copy(*up_, on_device_.data(), on_host_.data() + begin, kPiece);
      device_.copy(*down_, on_host_.data() + kStream + begin, on_device_.data() + kPiece, kPiece);
    }
    up_->synchronize();
    down_->synchronize();
  }
  static constexpr double kBytes = 2.0 * static_cast<double>(kStream);

 private:
  Device& device_;
  Buffer on_host_, on_device_;
  std::unique_ptr<Queue> up_, down_;
};

/// AdamW over bf16 weights, their remainders, a gradient in bf16 and fp32 moments, all pinned.
class Updates {
 public:
  Updates(Device& device, int threads)
      : memory_(device.allocate(MemoryKind::pinned_host, static_cast<std::size_t>(kExtent) * kExtents * 14)),
        pool_(threads) {}
  void pass() {
    for (int extent = 0; extent < kExtents; ++extent) {
      std::byte* next = memory_.data() + static_cast<std::size_t>(extent) * kExtent * 14;
      const auto take = [&next](DType dtype) {
        const TensorView view(next, dtype, {kExtent});
        next += view.bytes();
        return view;
      };
      const TensorView exp_avg = take(DType::f32), exp_avg_sq = take(DType::f32), weight = take(DType::bf16);
      const TensorView master = take(DType::i16), gradient = take(DType::bf16);
      kernels::cpu::adamw(pool_, {.parameter = {weight, master},
                                  .exp_avg = {exp_avg, {}},
                                  .exp_avg_sq = {exp_avg_sq, {}},
                                  .gradient = gradient,
                                  .learning_rate = 1e-3});
    }
  }
  static constexpr double kParameters = static_cast<double>(kExtent) * kExtents;

 private:
  Buffer memory_;
  kernels::cpu::ThreadPool pool_;
};

/// Passes a second while `pass` is repeated for a while.
double rate_of(const std::function<void()>& pass) {
  pass();
  int passes = 0;
  const auto start = Clock::now();
  while (seconds_since(start) < kSeconds) {
    pass();
    ++passes;
  }
  return passes / seconds_since(start);
}

int run(int threads) {
  const std::unique_ptr<Device> device = make_cuda_device({});
  Link link(*device);
  Updates updates(*device, threads);
  const double link_alone = rate_of([&] { link.pass(); });
  const double updates_alone = rate_of([&] { updates.pass(); });
  double link_beside = 0.0, updates_beside = 0.0;
  std::thread other([&] { link_beside = rate_of([&] { link.pass(); }); });
  updates_beside = rate_of([&] { updates.pass(); });
  other.join();

  std::printf("%d threads\n", threads);
  std::printf("link alone      %6.1f GB/s both ways\n", 1e-9 * link_alone * Link::kBytes);
  std::printf("updates alone   %6.2f e9 parameters/s\n", 1e-9 * updates_alone * Updates::kParameters);
  std::printf("both at once    %6.1f GB/s, %6.2f e9 parameters/s\n", 1e-9 * link_beside * Link::kBytes,
              1e-9 * updates_beside * Updates::kParameters);
  return 0;
}

}  // namespace
}  // namespace spillway

int main(int count, char** arguments) {
  const int all = static_cast<int>(std::thread::hardware_concurrency());
  return spillway::run(count > 1 ? std::atoi(arguments[1]) : all);
}
