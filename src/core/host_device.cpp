// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <sys/mman.h>

#include "core/device.hpp"
#include "core/error.hpp"
#include "core/worker_queue.hpp"

namespace spillway {
namespace {

class InlineQueue : public Queue {
 public:
  void submit(std::function<void()> work) override { work(); }
  Event record() override { return {}; }
  void wait(const Event& event) override { event.wait(); }
};

class RepeatedCall : public Recording {
 public:
  explicit RepeatedCall(std::function<void()> work) : work_(std::move(work)) {}
  void run(Queue& /*queue*/) override { work_(); }

 private:
  std::function<void()> work_;
};

/// The host's clock is the device's.
class HostMarks : public Marks {
  using Clock = std::chrono::steady_clock;

 public:
  explicit HostMarks(std::size_t count) : times_(count) {}
  void set(Queue& queue, std::size_t index) override {
    Clock::time_point& time = times_.at(index);
    queue.submit([&time] { time = Clock::now(); });
  }
  void synchronize_clocks() override {}
  Clock::time_point at(std::size_t index) override { return times_.at(index); }
  double seconds(std::size_t from, std::size_t to) override {
    return std::chrono::duration<double>(times_.at(to) - times_.at(from)).count();
  }

 private:
  std::vector<Clock::time_point> times_;
};

class HostDevice : public Device {
 public:
  std::string name() const override { return "cpu"; }
  bool is_host() const noexcept override { return true; }
  std::size_t free_bytes() const override { return std::numeric_limits<std::size_t>::max(); }

  Buffer allocate(MemoryKind kind, std::size_t bytes) override {
    constexpr std::size_t kPage = 4096;
    const std::size_t rounded = (bytes + kPage - 1) / kPage * kPage;
    if (rounded == 0) return {};
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(kPage, rounded));
    if (memory == nullptr)
      throw Error(fmt::format("host memory: {} bytes cannot be allocated", rounded), ExitCode::failure);
    // Huge pages make streams over several arrays a fifth faster. A wish only: a system without them says no.
    constexpr std::size_t kWorthHugePages = std::size_t{4} << 20;
    if (rounded >= kWorthHugePages) (void)madvise(memory, rounded, MADV_HUGEPAGE);
    std::memset(memory, 0, rounded);
    return {std::unique_ptr<std::byte[], MemoryDeleter>(memory, MemoryDeleter{[](std::byte* p) { std::free(p); }}),
            rounded, kind};
  }
  std::unique_ptr<Queue> create_compute_queue() override { return std::make_unique<InlineQueue>(); }
  std::unique_ptr<Queue> create_worker_queue(const std::string& name) override {
    return std::make_unique<WorkerQueue>(name);
  }
  void copy(Queue& queue, std::byte* to, const std::byte* from, std::size_t bytes) override {
    queue.submit([=] { std::memcpy(to, from, bytes); });
  }
  std::unique_ptr<Recording> record_work(Queue& /*queue*/, std::function<void()> work) override {
    return std::make_unique<RepeatedCall>(std::move(work));
  }
  std::unique_ptr<Marks> create_marks(std::size_t count) override { return std::make_unique<HostMarks>(count); }
};

}  // namespace

std::unique_ptr<Device> make_host_device() { return std::make_unique<HostDevice>(); }

}  // namespace spillway
