// SPDX-License-Identifier: Apache-2.0
#include "core/cuda_device.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <utility>

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "core/cuda/cuda_event.hpp"
#include "core/cuda/cuda_graph.hpp"
#include "core/cuda/cuda_marks.hpp"
#include "core/cuda/cuda_queue.hpp"
#include "core/cuda/cuda_worker_queue.hpp"
#include "core/cuda/driver_memory.hpp"
#include "core/cuda/gpus.hpp"
#include "core/cuda/memory_budget.hpp"
#include "core/device_meters.hpp"
#include "core/error.hpp"
#include "core/round_up.hpp"

namespace spillway {
namespace {

constexpr std::size_t kPage = 4096;

/// Memory that CUDA knows nothing of is the host's.
bool on_device(const std::byte* memory) {
  cudaPointerAttributes attributes{};
  cuda::check(cudaPointerGetAttributes(&attributes, memory), "cudaPointerGetAttributes");
  return attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
}

class CudaDevice : public Device, public DeviceMeters {
 public:
  CudaDevice(int index, CudaGpu gpu, std::size_t budget_bytes)
      : index_(index),
        gpu_(std::move(gpu)),
        driver_memory_(gpu_.uuid),
        budget_(std::make_shared<cuda::MemoryBudget>(budget_bytes)) {
    cuda::make_current(index_);
    zeroing_ = cuda::make_stream();
  }

  std::string name() const override { return gpu_.name; }
  bool is_host() const noexcept override { return false; }
  std::size_t free_bytes() const override {
    std::size_t free = 0;
    std::size_t total = 0;
    cuda::make_current(index_);
    cuda::check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return std::min(free, budget_->limit() - budget_->used());
  }

  Buffer allocate(MemoryKind kind, std::size_t bytes) override {
    const std::size_t rounded = round_up(bytes, kPage);
    if (rounded == 0) return {};
    cuda::make_current(index_);
    return kind == MemoryKind::device ? allocate_device(rounded) : allocate_pinned(rounded);
  }
  std::unique_ptr<Queue> create_compute_queue() override {
    return std::make_unique<cuda::CudaQueue>(index_, events_, failures_);
  }
  std::unique_ptr<Queue> create_worker_queue(const std::string& name) override {
    return std::make_unique<cuda::CudaWorkerQueue>(index_, name);
  }
  void copy(Queue& queue, std::byte* to, const std::byte* from, std::size_t bytes) override {
    if (bytes == 0) return;
    if (auto* compute = dynamic_cast<cuda::CudaQueue*>(&queue)) compute->copy(to, from, bytes);
    else if (auto* worker = dynamic_cast<cuda::CudaWorkerQueue*>(&queue)) worker->copy(to, from, bytes);
    else throw Error(fmt::format("copy on {}: the queue is not of this device", gpu_.name));
    count(to, from, bytes);
  }
  void copy_little(Queue& queue, std::byte* to, const std::byte* from, std::size_t bytes) override {
    auto* const compute = dynamic_cast<cuda::CudaQueue*>(&queue);
    if (compute == nullptr) return copy(queue, to, from, bytes);
    if (bytes == 0) return;
    compute->copy_little(to, from, bytes);
    count(to, from, bytes);
  }
  std::unique_ptr<Recording> record_work(Queue& queue, std::function<void()> work) override {
    cuda::make_current(index_);
    return std::make_unique<cuda::CudaGraph>(queue, work);
  }
  std::unique_ptr<Marks> create_marks(std::size_t count) override {
    return std::make_unique<cuda::CudaMarks>(index_, count);
  }
  LinkCounter& link() noexcept override { return link_; }
  std::optional<std::size_t> taken_bytes() const override { return driver_memory_.taken_bytes(); }

 private:
  void count(const std::byte* to, const std::byte* from, std::size_t bytes) {
    const bool to_device = on_device(to), from_device = on_device(from);
    if (to_device != from_device) link_.add({.up = to_device ? bytes : 0, .down = to_device ? 0 : bytes});
  }
  Buffer allocate_device(std::size_t bytes) {
    std::shared_ptr<void> share = budget_->take(bytes);
    std::byte* start = ask_device(bytes);
    std::size_t ahead = bytes_to_page(start);
    if (ahead != 0) {  // a small one, cut by CUDA out of a block of its own: a page more holds a whole boundary
      cuda::log_if_failed(cudaFree(start), "cudaFree");
      share.reset();
      share = budget_->take(bytes + kPage);
      start = ask_device(bytes + kPage);
      ahead = bytes_to_page(start);
    }
    std::unique_ptr<std::byte[], MemoryDeleter> memory(
        start + ahead, MemoryDeleter{[start, share](std::byte*) { cuda::log_if_failed(cudaFree(start), "cudaFree"); }});
    cuda::check(cudaMemsetAsync(memory.get(), 0, bytes, zeroing_.get()), "cudaMemsetAsync");
    cuda::check(cudaStreamSynchronize(zeroing_.get()), "cudaStreamSynchronize");
    return {std::move(memory), bytes, MemoryKind::device};
  }

  Buffer allocate_pinned(std::size_t bytes) {
    void* start = nullptr;
    const cudaError_t result = cudaHostAlloc(&start, bytes, cudaHostAllocPortable);
    if (result != cudaSuccess)
      cuda::check(result, fmt::format("pinned host memory: cudaHostAlloc of {} bytes", bytes).c_str());
    std::unique_ptr<std::byte[], MemoryDeleter> memory(static_cast<std::byte*>(start), MemoryDeleter{[](std::byte* p) {
                                                         cuda::log_if_failed(cudaFreeHost(p), "cudaFreeHost");
                                                       }});
    if (bytes_to_page(memory.get()) != 0) throw CudaError("cudaHostAlloc gave memory that begins inside a page");
    std::memset(memory.get(), 0, bytes);
    return {std::move(memory), bytes, MemoryKind::pinned_host};
  }

  std::byte* ask_device(std::size_t bytes) {
    void* start = nullptr;
    const cudaError_t result = cudaMalloc(&start, bytes);
    if (result == cudaSuccess) return static_cast<std::byte*>(start);
    static_cast<void>(cudaGetLastError());
    std::size_t free = 0;
    std::size_t total = 0;
    cuda::log_if_failed(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    throw CudaError(fmt::format("device memory: cudaMalloc of {} bytes: {} ({}); {} are used here, {} of {} free",
                                bytes, cudaGetErrorString(result), cudaGetErrorName(result), budget_->used() - bytes,
                                free, total));
  }

  static std::size_t bytes_to_page(const std::byte* memory) {
    return (kPage - reinterpret_cast<std::uintptr_t>(memory) % kPage) % kPage;
  }

  int index_;
  CudaGpu gpu_;
  cuda::DriverMemory driver_memory_;  // before this process has a context
  std::shared_ptr<cuda::MemoryBudget> budget_;
  std::shared_ptr<cuda::EventPool> events_ = std::make_shared<cuda::EventPool>();
  LinkCounter link_;
  std::shared_ptr<std::mutex> failures_ = std::make_shared<std::mutex>();
  cuda::StreamHandle zeroing_;
};

}  // namespace

bool cuda_compiled() noexcept { return true; }

std::unique_ptr<Device> make_cuda_device(const CudaDeviceOptions& options) {
  const std::vector<CudaGpu> gpus = list_cuda_gpus();
  const int index = cuda::find_gpu(gpus, options.uuid);
  return std::make_unique<CudaDevice>(index, gpus[static_cast<std::size_t>(index)], options.budget_bytes);
}

}  // namespace spillway
