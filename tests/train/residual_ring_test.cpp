// SPDX-License-Identifier: Apache-2.0
#include "train/residual_ring.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ostream>
#include <random>
#include <thread>
#include <utility>

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "plan/job_ledger.hpp"

namespace spillway::train {
namespace {

/// The host as a device whose compute queues run beside the caller, as a GPU's do, with copies of very different length.
class DeviceBeside : public Device {
 public:
  std::string name() const override { return "beside"; }
  bool is_host() const noexcept override { return false; }
  std::size_t free_bytes() const override { return host_->free_bytes(); }
  Buffer allocate(MemoryKind kind, std::size_t bytes) override { return host_->allocate(kind, bytes); }
  std::unique_ptr<Queue> create_compute_queue() override { return host_->create_worker_queue("compute"); }
  std::unique_ptr<Queue> create_worker_queue(const std::string& name) override {
    return host_->create_worker_queue(name);
  }
  void copy(Queue& queue, std::byte* to, const std::byte* from, std::size_t bytes) override {
    const std::chrono::microseconds delay(random_() % 2 == 0 ? 400 : 10);
    queue.submit([delay] { std::this_thread::sleep_for(delay); });
    host_->copy(queue, to, from, bytes);
  }
  std::unique_ptr<Recording> record_work(Queue& queue, std::function<void()> work) override {
    return host_->record_work(queue, std::move(work));
  }
  std::unique_ptr<Marks> create_marks(std::size_t count) override { return host_->create_marks(count); }

 private:
  std::unique_ptr<Device> host_ = make_host_device();
  std::mt19937 random_{3};  // of the thread that submits
};

struct Case {
  std::vector<std::size_t> stage_bytes;
  int group_size;
  bool wait_at_once = false;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.stage_bytes.size() << " stages in groups of " << c.group_size << (c.wait_at_once ? ", at once" : "");
}

class ResidualRingTest : public testing::TestWithParam<Case> {
 protected:
  ResidualRingTest() {
    std::size_t all = 0, largest = 0;
    int stages = 0;
    for (const std::size_t bytes : GetParam().stage_bytes) {
      all += bytes;
      largest = std::max(largest, bytes);
      stages += bytes > 0 ? 1 : 0;
    }
    const auto places = static_cast<std::size_t>(plan::residual_places(GetParam().group_size, stages));
    places_ = device_.allocate(MemoryKind::device, places * largest);
    host_ = device_.allocate(MemoryKind::pinned_host, static_cast<std::size_t>(GetParam().group_size) * all);
    ring_ = std::make_unique<ResidualRing>(device_, GetParam().stage_bytes, GetParam().group_size,
                                           view(places_, places * largest), view(host_, host_.bytes()),
                                           GetParam().wait_at_once);
  }
  static TensorView view(const Buffer& buffer, std::size_t bytes) {
    return {buffer.data(), DType::u8, {static_cast<std::int64_t>(bytes)}};
  }
  [[nodiscard]] int stages() const { return static_cast<int>(GetParam().stage_bytes.size()); }
  /// Of a micro-batch that does not fill its place.
  [[nodiscard]] std::size_t bytes(int stage) const {
    return GetParam().stage_bytes[static_cast<std::size_t>(stage)] / 2;
  }
  static std::byte content(int stage, int slot, int group) {
    return static_cast<std::byte>(1 + stage * 31 + slot * 7 + group * 3);
  }
  void look(int stage, int slot, int group) {
    if (!ring_->passes(stage)) return;
    const std::chrono::microseconds delay(random_() % 4 == 0 ? 300 : 10);
    queue_->submit([this, memory = ring_->memory(stage, slot), stage, slot, group, delay] {
      std::this_thread::sleep_for(delay);  // a kernel
      wrong_ += static_cast<int>(bytes(stage) -
                                 std::size_t(std::count(memory, memory + bytes(stage), content(stage, slot, group))));
    });
  }
  void forward(int stage, int slot, int group) {
    ring_->before_forward(*queue_, stage, slot);
    look(stage, slot, group);
    if (!ring_->passes(stage + 1)) return;
    queue_->submit([this, memory = ring_->memory(stage + 1, slot), stage, slot, group] {
      std::fill_n(memory, bytes(stage + 1), content(stage + 1, slot, group));
    });
    ring_->after_forward(*queue_, stage, slot, bytes(stage + 1));
  }
  void backward(int stage, int slot, int group) {
    ring_->before_backward(*queue_, stage, slot);
    look(stage, slot, group);
    ring_->after_backward(*queue_, stage, slot);
  }
  /// A walk of the step program.
  void run(int group, const std::vector<int>& slots) {
    for (int stage = 0; stage < stages(); ++stage)
      for (const int slot : slots) forward(stage, slot, group);
    for (int stage = stages() - 2; stage >= 0; --stage)
      for (const int slot : slots) backward(stage, slot, group);
  }

  DeviceBeside device_;
  Buffer places_, host_;
  std::unique_ptr<Queue> queue_ = device_.create_compute_queue();
  std::unique_ptr<ResidualRing> ring_;
  std::mt19937 random_{5};
  std::atomic<int> wrong_ = 0;  // bytes
};

TEST_P(ResidualRingTest, EveryStage_FindsWhatWasLeftForIt_InEveryGroup) {
  std::vector<int> all(static_cast<std::size_t>(GetParam().group_size));
  for (std::size_t slot = 0; slot < all.size(); ++slot) all[slot] = static_cast<int>(slot);

  for (int group = 0; group < 4; ++group) run(group, all);
  queue_->synchronize();

  EXPECT_EQ(wrong_, 0);
}

TEST_P(ResidualRingTest, SlotsWithoutSamples_AreLeftOut) {
  std::vector<int> some;
  for (int slot = GetParam().group_size - 1; slot >= 0; slot -= 2) some.insert(some.begin(), slot);

  run(0, some);
  run(1, {0});
  run(2, some);
  queue_->synchronize();

  EXPECT_EQ(wrong_, 0);
}

TEST_P(ResidualRingTest, WhatTheBackwardPassIsThroughWith_CanBeBroughtAgain) {
  run(0, {0});

  for (int stage = 0; stage < stages(); ++stage) {
    if (!ring_->passes(stage)) continue;
    ring_->bring(*queue_, stage, 0);
    look(stage, 0, 0);
    queue_->synchronize();
  }
  run(1, {0});
  queue_->synchronize();

  EXPECT_EQ(wrong_, 0);
}

TEST_P(ResidualRingTest, TooLittleMemory_IsRefused) {
  const Case& c = GetParam();

  EXPECT_THROW(ResidualRing(device_, c.stage_bytes, c.group_size, view(places_, 1), view(host_, host_.bytes()), false),
               Error);
  EXPECT_THROW(
      ResidualRing(device_, c.stage_bytes, c.group_size, view(places_, places_.bytes()), view(host_, 1), false), Error);
}

/// As a model has them: the embeddings keep nothing, the ends of both stacks stay.
INSTANTIATE_TEST_SUITE_P(Stages, ResidualRingTest,
                         testing::Values(Case{{0, 64, 64, 64, 64, 64, 64, 0}, 1},
                                         Case{{0, 64, 64, 64, 64, 64, 64, 0}, 3},
                                         Case{{0, 640, 640, 640, 0, 0, 64, 64, 64, 64, 0}, 1},
                                         Case{{0, 640, 640, 640, 0, 0, 64, 64, 64, 64, 0}, 4},
                                         Case{{0, 64, 64, 64, 64, 0, 0, 0, 0, 0}, 2},
                                         Case{{0, 0, 0, 0, 64, 64, 64, 64, 64, 0}, 2}, Case{{0, 64, 64, 64, 64, 0}, 3},
                                         Case{{0, 64, 0, 0}, 1}, Case{{0, 64, 64, 64, 64, 0, 64, 64, 0}, 3, true}));

}  // namespace
}  // namespace spillway::train
