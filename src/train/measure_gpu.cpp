// SPDX-License-Identifier: Apache-2.0
#include "train/measure_gpu.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include <fmt/format.h>

#include "core/error.hpp"
#include "kernels/cuda/cuda_kernels.hpp"
#include "kernels/float16.hpp"
#include "train/planned_machine.hpp"

namespace spillway::train {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMiB = std::size_t{1} << 20;
// What is not measured: see named_profiles.cpp.
constexpr double kMemoryShare = 0.7, kMostAttentionShare = 0.25, kAttentionFlops = 92e12, kKernelSeconds = 5e-6;

/// One GPU, its ops, and memory for them.
class Bench {
 public:
  explicit Bench(Device& device)
      : device_(device),
        queue_(device.create_compute_queue()),
        marks_(device.create_marks(2)),
        workspace_(device.allocate(MemoryKind::device, kernels::cuda::model_ops_workspace_bytes({}))),
        optimizer_workspace_(device.allocate(MemoryKind::device, kernels::cuda::optimizer_workspace_bytes())),
        memory_(device.allocate(MemoryKind::device, room(device))),
        pinned_(device.allocate(MemoryKind::pinned_host, 256 * kMiB)) {
    // Zeros take less power, and are faster, than numbers.
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    auto* const numbers = reinterpret_cast<std::uint16_t*>(pinned_.data());
    constexpr std::size_t kDrawn = std::size_t{1} << 20;
    for (std::size_t i = 0; i < kDrawn; ++i) numbers[i] = bf16_from_float(normal(random));
    for (std::size_t i = kDrawn; i + kDrawn <= pinned_.bytes() / 2; i += kDrawn)
      std::copy_n(numbers, kDrawn, numbers + i);
    for (std::size_t at = 0; at < memory_.bytes(); at += pinned_.bytes())
      device_.copy(*queue_, memory_.data() + at, pinned_.data(), std::min(pinned_.bytes(), memory_.bytes() - at));
    queue_->synchronize();
  }

  /// Operations a second. x (rows, in), w (out, in).
  double product(DType dtype, std::int64_t rows, std::int64_t in, std::int64_t out, bool tf32 = false) {
    if (static_cast<std::size_t>(rows * in + in * out + rows * out) * size_of(dtype) > memory_.bytes()) return 0.0;
    const auto ops = kernels::cuda::make_model_ops({workspace_.data(), workspace_.bytes()}, {.tf32 = tf32});
    begin_ = 0;
    const TensorView x = take({rows, in}, dtype), w = take({out, in}, dtype), y = take({rows, out}, dtype);
    const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(in) * static_cast<double>(out);
    return flops / seconds([&] { ops->linear(*queue_, {.x = x, .w = w, .y = y}); });
  }

  /// Bytes a second, read and written.
  double copy() {
    const std::size_t half = memory_.bytes() / 2;
    return 2.0 * static_cast<double>(half) /
           seconds([&] { device_.copy(*queue_, memory_.data() + half, memory_.data(), half); });
  }

  /// Parameters a second.
  double adamw() {
    constexpr std::size_t kBytes = 2 + 2 + 2 + 4 + 4;
    const auto count = static_cast<std::int64_t>(std::min(memory_.bytes() / kBytes, 64 * kMiB) / 256 * 256);
    const auto ops =
        kernels::cuda::make_optimizer_ops(*queue_, {optimizer_workspace_.data(), optimizer_workspace_.bytes()});
    begin_ = 0;
    const kernels::AdamWStep step{
        .parameter = {.weight = take({count}, DType::bf16), .master = take({count}, DType::i16)},
        .exp_avg = {.values = take({count}, DType::f32), .scales = {}},
        .exp_avg_sq = {.values = take({count}, DType::f32), .scales = {}},
        .gradient = take({count}, DType::bf16),
        .learning_rate = 1e-3};
    return static_cast<double>(count) / seconds([&] { ops->adamw(*queue_, step); });
  }

  plan::PcieProfile pcie() {
    const auto other = device_.create_compute_queue();
    const std::size_t half = std::min(pinned_.bytes(), memory_.bytes()) / 2;
    const auto up = [&] { device_.copy(*queue_, memory_.data(), pinned_.data(), half); };
    const auto down = [&] { device_.copy(*other, pinned_.data() + half, memory_.data() + half, half); };
    const auto bytes = static_cast<double>(half);
    return {.up_rate = bytes / wall_seconds(*other, up),
            .down_rate = bytes / wall_seconds(*other, down),
            .both_rate = 2.0 * bytes /
                         wall_seconds(*other,
                                      [&] {
                                        up();
                                        down();
                                      }),
            .source = fmt::format("measured: {} MiB of pinned memory each way, and both ways at once", half / kMiB)};
  }

 private:
  static std::size_t room(const Device& device) {
    constexpr std::size_t kLeast = 1024 * kMiB;  // the largest product takes 384 MiB
    const std::size_t free = device.free_bytes();
    if (free < kLeast)
      throw Error(
          fmt::format("{}: only {} MiB of device memory are free, too little to measure", device.name(), free / kMiB),
          ExitCode::failure);
    return std::min(free / 2, 2048 * kMiB) / kMiB * kMiB;
  }

  TensorView take(Shape shape, DType dtype) {
    const TensorView tensor(memory_.data() + begin_, dtype, shape);
    begin_ += (tensor.bytes() + 255) / 256 * 256;
    return tensor;
  }

  /// Of one call: the best of a few rounds of enough calls to last some milliseconds.
  double seconds(const std::function<void()>& work) {
    constexpr double kRound = 0.05;
    const auto round = [&](int calls) {
      marks_->set(*queue_, 0);
      for (int i = 0; i < calls; ++i) work();
      marks_->set(*queue_, 1);
      return marks_->seconds(0, 1) / calls;
    };
    (void)round(1);  // chooses algorithms and warms up
    const int calls = std::clamp(static_cast<int>(kRound / std::max(round(1), 1e-7)), 1, 1000);
    return std::min({round(calls), round(calls), round(calls)});
  }

  double wall_seconds(Queue& other, const std::function<void()>& work) {
    double shortest = 1e9;
    for (int i = 0; i < 4; ++i) {
      const auto start = Clock::now();
      work();
      queue_->synchronize();
      other.synchronize();
      shortest = std::min(shortest, std::chrono::duration<double>(Clock::now() - start).count());
    }
    return shortest;
  }

  Device& device_;
  std::unique_ptr<Queue> queue_;
  std::unique_ptr<Marks> marks_;
  Buffer workspace_, optimizer_workspace_, memory_, pinned_;
  std::size_t begin_ = 0;
};

}  // namespace

GpuMeasures measure_gpu(Device& device, const CudaGpu& gpu) {
  const std::size_t free = device.free_bytes();
  plan::GpuProfile profile{.name = gpu.name, .memory_bytes = gpu.total_bytes, .context_bytes = kContextBytes};
  // What this process's context holds is free but for that.
  profile.driver_bytes = gpu.total_bytes - std::min(gpu.total_bytes, free + kContextBytes);
  Bench bench(device);
  constexpr std::int64_t kLarge = 8192, kMiddle = 4096;
  constexpr int kFirstWithBf16 = 8;  // compute capability, of TF32 too
  const bool ampere = gpu.capability_major >= kFirstWithBf16;
  const DType half = ampere ? DType::bf16 : DType::f16;
  const double large = bench.product(half, kLarge, kLarge, kLarge);
  profile.fp16_flops = bench.product(DType::f16, kLarge, kLarge, kLarge);
  if (ampere) profile.bf16_flops = large;
  profile.fp32_flops = bench.product(DType::f32, kMiddle, kMiddle, kMiddle);
  if (ampere) profile.tf32_flops = bench.product(DType::f32, kMiddle, kMiddle, kMiddle, true);
  // A feed-forward layer of t5-3b in and out, and an attention layer of t5-large.
  const double time = 1.0 / bench.product(half, 2560, 1024, 16384) + 1.0 / bench.product(half, 2560, 16384, 1024) +
                      1.0 / bench.product(half, 5120, 1024, 1024);
  profile.product_share = std::min(1.0, 3.0 / time / large);
  profile.attention_share = std::min(kMostAttentionShare, kAttentionFlops / large);
  profile.memory_rate = bench.copy();
  profile.memory_share = kMemoryShare;
  profile.adamw_rate = bench.adamw();
  profile.kernel_seconds = kKernelSeconds;
  profile.source =
      "measured: products of 8192 cubed (fp32, TF32: 4096) and of T5's shapes, a copy, AdamW with the exact master in "
      "bf16; assumed: "
      "what attention, norms and activations reach, and the cost of a kernel";
  return {.gpu = std::move(profile), .pcie = bench.pcie()};
}

}  // namespace spillway::train
