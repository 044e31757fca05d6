// SPDX-License-Identifier: Apache-2.0
#include "support/separate_device.hpp"

#include <cstring>
#include <vector>

#include "core/worker_queue.hpp"

namespace spillway::test {
namespace {

class EventMarks : public Marks {
  using Clock = std::chrono::steady_clock;

 public:
  explicit EventMarks(std::size_t count) : times_(count), reached_(count) {}
  void set(Queue& queue, std::size_t index) override {
    queue.submit([this, index] { times_.at(index) = Clock::now(); });
    reached_.at(index) = queue.record();
  }
  void synchronize_clocks() override {}
  Clock::time_point at(std::size_t index) override {
    reached_.at(index).wait();
    return times_.at(index);
  }
  double seconds(std::size_t from, std::size_t to) override {
    return std::chrono::duration<double>(at(to) - at(from)).count();
  }

 private:
  std::vector<Clock::time_point> times_;
  std::vector<Event> reached_;
};

class SeparateDevice : public Device {
 public:
  std::string name() const override { return "separate"; }
  bool is_host() const noexcept override { return false; }
  std::size_t free_bytes() const override { return std::size_t{1} << 40; }
  Buffer allocate(MemoryKind kind, std::size_t bytes) override { return host_->allocate(kind, bytes); }
  std::unique_ptr<Queue> create_compute_queue() override { return std::make_unique<WorkerQueue>("compute"); }
  std::unique_ptr<Queue> create_worker_queue(const std::string& name) override {
    return host_->create_worker_queue(name);
  }
  void copy(Queue& queue, std::byte* to, const std::byte* from, std::size_t bytes) override {
    queue.submit([=] { std::memcpy(to, from, bytes); });
  }
  std::unique_ptr<Recording> record_work(Queue& queue, std::function<void()> work) override {
    return host_->record_work(queue, std::move(work));
  }
  std::unique_ptr<Marks> create_marks(std::size_t count) override { return std::make_unique<EventMarks>(count); }

 private:
  std::unique_ptr<Device> host_ = make_host_device();
};

}  // namespace

std::unique_ptr<Device> make_separate_device() { return std::make_unique<SeparateDevice>(); }

}  // namespace spillway::test
