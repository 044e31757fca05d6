// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <future>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include "core/device.hpp"
#include "core/error.hpp"

namespace spillway {
namespace {

class HostDevice : public testing::Test {
 protected:
  std::unique_ptr<Device> device_ = make_host_device();
  std::unique_ptr<Queue> worker_ = device_->create_worker_queue("worker");
};

TEST(Event, DefaultMade_HasHappened) {
  const Event event;

  EXPECT_TRUE(event.ready());
  EXPECT_NO_THROW(event.wait());
}

TEST_F(HostDevice, Worker_RunsTasksInOrderOnAThreadOfItsOwn) {
  std::vector<int> order;
  std::thread::id thread;

  for (int i = 0; i < 100; ++i) worker_->submit([&order, i] { order.push_back(i); });
  worker_->submit([&] { thread = std::this_thread::get_id(); });
  worker_->synchronize();

  ASSERT_EQ(order.size(), 100U);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_NE(thread, std::this_thread::get_id());
}

TEST_F(HostDevice, Worker_HasItsNameInDebuggers) {
  std::array<char, 16> name{};

  worker_->submit([&] { pthread_getname_np(pthread_self(), name.data(), name.size()); });
  worker_->synchronize();

  EXPECT_STREQ(name.data(), "worker");
}

TEST_F(HostDevice, Worker_SubmitReturnsBeforeTheWorkIsDone) {
  std::promise<void> gate;
  worker_->submit([opened = gate.get_future().share()] { opened.wait(); });

  const Event event = worker_->record();
  const bool ready_before = event.ready();
  gate.set_value();
  event.wait();

  EXPECT_FALSE(ready_before);
  EXPECT_TRUE(event.ready());
}

TEST_F(HostDevice, Worker_StartsWorkOnlyAfterTheEventItWaitsFor) {
  std::promise<void> gate;
  int value = 0;
  const auto other = device_->create_worker_queue("other");
  other->submit([&value, opened = gate.get_future().share()] {
    opened.wait();
    value = 7;
  });
  int seen = 0;

  worker_->wait(other->record());
  worker_->submit([&] { seen = value; });
  gate.set_value();
  worker_->synchronize();

  EXPECT_EQ(seen, 7);
}

TEST_F(HostDevice, Worker_AfterAnError_SkipsLaterTasksAndEveryLaterEventRethrows) {
  bool ran = false;
  const Event before = worker_->record();
  worker_->submit([] { throw DataError("line 7"); });
  const Event first = worker_->record();
  worker_->submit([&] { ran = true; });
  const Event second = worker_->record();

  EXPECT_NO_THROW(before.wait());
  EXPECT_THROW(first.wait(), DataError);
  EXPECT_THROW(first.wait(), DataError);  // and again for the next who waits
  EXPECT_THROW(second.wait(), DataError);
  EXPECT_THROW(worker_->synchronize(), DataError);
  EXPECT_FALSE(ran);
}

TEST_F(HostDevice, Worker_AnErrorPassesToTheQueuesThatWaitForIt) {
  const auto other = device_->create_worker_queue("other");
  bool ran = false;
  other->submit([] { throw DataError("line 7"); });

  worker_->wait(other->record());
  worker_->submit([&] { ran = true; });

  EXPECT_THROW(worker_->synchronize(), DataError);
  EXPECT_FALSE(ran);
}

TEST_F(HostDevice, Worker_DestroyedWithWorkLeft_DoesItFirst) {
  int done = 0;
  for (int i = 0; i < 10; ++i) worker_->submit([&] { ++done; });
  const Event event = worker_->record();

  worker_.reset();

  EXPECT_EQ(done, 10);
  EXPECT_TRUE(event.ready());  // an event outlives its queue
}

TEST_F(HostDevice, ComputeQueue_RunsWorkBeforeSubmitReturns) {
  const auto compute = device_->create_compute_queue();
  std::thread::id thread;

  compute->submit([&] { thread = std::this_thread::get_id(); });

  EXPECT_EQ(thread, std::this_thread::get_id());
  EXPECT_TRUE(compute->record().ready());
}

TEST_F(HostDevice, ComputeQueue_WaitBlocksUntilTheEvent) {
  const auto compute = device_->create_compute_queue();
  int value = 0;
  worker_->submit([&] { value = 7; });

  compute->wait(worker_->record());

  EXPECT_EQ(value, 7);
}

TEST_F(HostDevice, Memory_IsZeroAlignedAndRoundedUpToPages) {
  const Buffer buffer = device_->allocate(MemoryKind::pinned_host, 5000);

  ASSERT_EQ(buffer.bytes(), 8192U);
  EXPECT_EQ(buffer.kind(), MemoryKind::pinned_host);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 4096, 0U);
  EXPECT_THAT(std::vector<std::byte>(buffer.data(), buffer.data() + buffer.bytes()), testing::Each(std::byte{0}));
}

TEST_F(HostDevice, Memory_OfNoBytesIsEmpty) { EXPECT_EQ(device_->allocate(MemoryKind::device, 0).data(), nullptr); }

TEST_F(HostDevice, Memory_ThatCannotBeHadIsAnErrorWithTheAmount) {
  constexpr std::size_t kTooMuch = std::size_t{1} << 60;
  try {
    static_cast<void>(device_->allocate(MemoryKind::device, kTooMuch));
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::failure);
    EXPECT_THAT(error.what(), testing::HasSubstr(std::to_string(kTooMuch)));
  }
}

TEST_F(HostDevice, Copy_FollowsTheQueuesOrder) {
  std::vector<std::byte> from(3), to(3);
  worker_->submit([&] { from.assign(3, std::byte{9}); });

  device_->copy(*worker_, to.data(), from.data(), 3);
  worker_->synchronize();

  EXPECT_THAT(to, testing::Each(std::byte{9}));
}

TEST_F(HostDevice, RecordedWork_RunsWhenAskedAndReadsWhatIsThereThen) {
  std::byte from{1}, to{0};
  const auto queue = device_->create_compute_queue();

  const auto recording = device_->record_work(*queue, [&] { device_->copy(*queue, &to, &from, 1); });
  EXPECT_EQ(to, std::byte{0});
  from = std::byte{2};
  recording->run(*queue);
  EXPECT_EQ(to, std::byte{2});
  from = std::byte{3};
  recording->run(*queue);

  EXPECT_EQ(to, std::byte{3});
}

TEST_F(HostDevice, Marks_TellWhenTheQueueCameToThem) {
  const auto queue = device_->create_compute_queue();
  const auto marks = device_->create_marks(3);
  const auto before = std::chrono::steady_clock::now();

  marks->set(*queue, 2);
  queue->submit([] { std::this_thread::sleep_for(std::chrono::milliseconds(2)); });
  marks->set(*queue, 0);

  EXPECT_GE(marks->seconds(2, 0), 0.002);
  EXPECT_GE(marks->at(2), before);
  EXPECT_LE(marks->at(0), std::chrono::steady_clock::now());
}

}  // namespace
}  // namespace spillway
