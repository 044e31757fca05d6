// SPDX-License-Identifier: Apache-2.0
#include "train/stall_clock.hpp"

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.hpp"

namespace spillway::test {
namespace {

using train::Activity;

/// Every mark is reached a second after the one before.
class SecondsApart : public Marks {
 public:
  void set(Queue& /*queue*/, std::size_t index) override { order_.emplace_back(index); }
  void synchronize_clocks() override {}
  std::chrono::steady_clock::time_point at(std::size_t /*index*/) override { return {}; }
  double seconds(std::size_t from, std::size_t to) override { return place(to) - place(from); }

 private:
  [[nodiscard]] double place(std::size_t index) const {
    for (std::size_t i = order_.size(); i > 0; --i)
      if (order_[i - 1] == index) return static_cast<double>(i);
    throw Error("the mark was not set");
  }
  std::vector<std::size_t> order_;
};

/// A GPU as far as a StallClock can tell.
class MarkedDevice : public Device {
 public:
  std::string name() const override { return "marked"; }
  bool is_host() const noexcept override { return false; }
  std::size_t free_bytes() const override { return host_->free_bytes(); }
  Buffer allocate(MemoryKind kind, std::size_t bytes) override { return host_->allocate(kind, bytes); }
  std::unique_ptr<Queue> create_compute_queue() override { return host_->create_compute_queue(); }
  std::unique_ptr<Queue> create_worker_queue(const std::string& name) override {
    return host_->create_worker_queue(name);
  }
  void copy(Queue& queue, std::byte* to, const std::byte* from, std::size_t bytes) override {
    host_->copy(queue, to, from, bytes);
  }
  std::unique_ptr<Recording> record_work(Queue& queue, std::function<void()> work) override {
    return host_->record_work(queue, std::move(work));
  }
  std::unique_ptr<Marks> create_marks(std::size_t /*count*/) override { return std::make_unique<SecondsApart>(); }

 private:
  std::unique_ptr<Device> host_ = make_host_device();
};

class StallClock : public testing::Test {
 protected:
  void stall(Activity activity, double counted = 0.0, double as_activity = 0.0) {
    { const train::StallClock::Span span(stalls_, activity); }
    stalls_.already_counted(counted, as_activity);
  }
  MarkedDevice device_;
  std::unique_ptr<Queue> queue_ = device_.create_compute_queue();
  train::StepClock clock_;
  train::StallClock stalls_{device_, *queue_, 3, clock_};
};

TEST_F(StallClock, MovesWhatItMeasuresFromComputeToTheActivity) {
  clock_.add(Activity::compute, 10.0);
  stalls_.begin_step();
  stall(Activity::h2d);
  stall(Activity::cpu_update);
  stall(Activity::h2d);

  stalls_.end_step();

  EXPECT_DOUBLE_EQ(clock_.seconds(Activity::h2d), 2.0);
  EXPECT_DOUBLE_EQ(clock_.seconds(Activity::cpu_update), 1.0);
  EXPECT_DOUBLE_EQ(clock_.seconds(Activity::compute), 7.0);
}

TEST_F(StallClock, LeavesOutWhatTheHostHasCounted) {
  clock_.add(Activity::compute, 10.0);
  stalls_.begin_step();
  stall(Activity::cpu_update, 0.25);
  stall(Activity::cpu_update, 4.0);

  stalls_.end_step();

  EXPECT_DOUBLE_EQ(clock_.seconds(Activity::cpu_update), 0.75);
}

TEST_F(StallClock, GivesBackWhatTheQueueComputedWhileTheHostWaited) {
  clock_.add(Activity::cpu_update, 4.0);
  clock_.add(Activity::nvme, 2.0);
  stalls_.begin_step();
  stall(Activity::cpu_update, 4.0, 4.0);
  stall(Activity::cpu_update, 2.0, 0.0);  // the drive was what it waited for

  stalls_.end_step();

  EXPECT_DOUBLE_EQ(clock_.seconds(Activity::cpu_update), 1.0);
  EXPECT_DOUBLE_EQ(clock_.seconds(Activity::nvme), 2.0);
  EXPECT_DOUBLE_EQ(clock_.seconds(Activity::compute), 3.0);
}

TEST_F(StallClock, TakesNoMoreThanWasComputed) {
  clock_.add(Activity::compute, 0.5);
  stalls_.begin_step();
  stall(Activity::d2h);

  stalls_.end_step();

  EXPECT_DOUBLE_EQ(clock_.seconds(Activity::d2h), 0.5);
  EXPECT_DOUBLE_EQ(clock_.seconds(Activity::compute), 0.0);
}

TEST_F(StallClock, CountsNothingOutsideStepsOrBeyondItsMarks) {
  clock_.add(Activity::compute, 100.0);
  stall(Activity::h2d);
  stalls_.begin_step();
  for (int i = 0; i < 5; ++i) stall(Activity::h2d);
  stalls_.end_step();
  stall(Activity::h2d);

  EXPECT_DOUBLE_EQ(clock_.seconds(Activity::h2d), 3.0);
}

TEST_F(StallClock, OnTheHostCountsNothing) {
  const auto host = make_host_device();
  train::StallClock stalls(*host, *queue_, 3, clock_);
  clock_.add(Activity::compute, 1.0);
  stalls.begin_step();
  { const train::StallClock::Span span(stalls, Activity::h2d); }

  stalls.end_step();

  EXPECT_DOUBLE_EQ(clock_.seconds(Activity::compute), 1.0);
}

}  // namespace
}  // namespace spillway::test
