// SPDX-License-Identifier: Apache-2.0
#include "app/device_choice.hpp"

#include <optional>
#include <vector>

#include <fmt/format.h>

#include "core/cuda_device.hpp"
#include "core/log.hpp"
#include "train/agreement.hpp"

namespace spillway::app {
namespace {

using train::DeviceChoice;
using train::Precision;

constexpr int kFirstWithBf16 = 8;  // compute capability of tensor cores for bf16

/// The GPU to use, if any.
std::optional<CudaGpu> choose(const train::RunOptions& options, int ranks) {
  if (options.train.device == DeviceChoice::cpu) return std::nullopt;
  const bool asked = options.train.device == DeviceChoice::cuda;
  if (!cuda_compiled()) {
    if (asked) throw ConfigError("train.device = \"cuda\": this build has no CUDA: configure with SPILLWAY_CUDA=ON");
    return std::nullopt;
  }
  std::vector<CudaGpu> gpus;
  try {
    gpus = list_cuda_gpus();
  } catch (const CudaError& error) {
    if (asked) throw ConfigError(fmt::format("train.device = \"cuda\": {}", error.what()));
  }
  if (gpus.empty() && asked) throw ConfigError("train.device = \"cuda\": no GPU is visible (CUDA_VISIBLE_DEVICES?)");
  if (gpus.empty()) return std::nullopt;
  if (ranks > 1) {
    if (asked)
      throw ConfigError("train.device = \"cuda\" with several ranks needs NCCL, which this version does not have yet");
    log::warning(
        "there are GPUs, but several ranks on GPUs need NCCL, which this version does not have yet: the CPUs are used");
    return std::nullopt;
  }
  return gpus.front();
}

}  // namespace

std::unique_ptr<Device> open_gpu(train::RunOptions& options, Runtime& runtime) {
  std::unique_ptr<Device> device;
  train::agree(runtime.communicator, [&] {
    const std::optional<CudaGpu> gpu = choose(options, runtime.communicator.size());
    options.train.device = gpu ? DeviceChoice::cuda : DeviceChoice::cpu;
    Precision& precision = options.train.precision;
    if (precision == Precision::automatic)
      precision = !gpu ? Precision::fp32 : gpu->capability_major >= kFirstWithBf16 ? Precision::bf16 : Precision::fp16;
    if (!gpu && options.train.tf32) throw ConfigError("train.tf32 = true is for a GPU, and the CPU is used");
    if (!gpu) return;
    CudaDeviceOptions asked{.uuid = gpu->uuid};
    if (options.memory.device) asked.budget_bytes = static_cast<std::size_t>(*options.memory.device);
    device = make_cuda_device(asked);
    log::info(fmt::format("device: {}, {}, compute capability {}.{}", gpu->name, gpu->uuid, gpu->capability_major,
                          gpu->capability_minor));
  });
  return device;
}

}  // namespace spillway::app
