// SPDX-License-Identifier: Apache-2.0
#include "core/cuda_device.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <future>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/device_meters.hpp"
#include "core/error.hpp"

namespace spillway {
namespace {

/// Why no GPU test can run here; empty if they can.
std::string why_no_gpu() {
  try {
    return list_cuda_gpus().empty() ? "no GPU is visible" : "";
  } catch (const Error& error) {
    return error.what();
  }
}

class CudaDevice : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = why_no_gpu(); !reason.empty()) GTEST_SKIP() << reason;
    device_ = make_cuda_device({});
    compute_ = device_->create_compute_queue();
    worker_ = device_->create_worker_queue("worker");
  }
  /// What is in device memory, by way of pinned memory.
  std::vector<std::byte> content(const Buffer& buffer) {
    const Buffer host = device_->allocate(MemoryKind::pinned_host, buffer.bytes());
    const auto queue = device_->create_compute_queue();
    device_->copy(*queue, host.data(), buffer.data(), buffer.bytes());
    queue->synchronize();
    return {host.data(), host.data() + host.bytes()};
  }
  std::unique_ptr<Device> device_;
  std::unique_ptr<Queue> compute_, worker_;
};

/// What both kinds of queue promise. The parameter: whether it is the worker queue.
class CudaQueues : public CudaDevice, public testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    CudaDevice::SetUp();
    if (IsSkipped()) return;
    queue_ = make();
    other_ = make();
  }
  std::unique_ptr<Queue> make() {
    return GetParam() ? device_->create_worker_queue("queue") : device_->create_compute_queue();
  }
  std::unique_ptr<Queue> queue_, other_;
};

INSTANTIATE_TEST_SUITE_P(Kinds, CudaQueues, testing::Bool(), [](const testing::TestParamInfo<bool>& kind) {
  return std::string(kind.param ? "Worker" : "Compute");
});

TEST_P(CudaQueues, RunTasksInOrderOnAnotherThread) {
  std::vector<int> order;
  std::thread::id thread;

  for (int i = 0; i < 100; ++i) queue_->submit([&order, i] { order.push_back(i); });
  queue_->submit([&] { thread = std::this_thread::get_id(); });
  queue_->synchronize();

  ASSERT_EQ(order.size(), 100U);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_NE(thread, std::this_thread::get_id());
}

TEST_P(CudaQueues, SubmitReturnsBeforeTheWorkIsDone) {
  std::promise<void> gate;
  queue_->submit([opened = gate.get_future().share()] { opened.wait(); });

  const Event event = queue_->record();
  const bool ready_before = event.ready();
  gate.set_value();
  event.wait();

  EXPECT_FALSE(ready_before);
  EXPECT_TRUE(event.ready());
}

TEST_P(CudaQueues, WaitForAQueueOfTheirKind_DoesNotBlockTheCallerAndOrdersTheWork) {
  std::promise<void> gate;
  int value = 0;
  other_->submit([&value, opened = gate.get_future().share()] {
    opened.wait();
    value = 7;
  });
  int seen = 0;

  queue_->wait(other_->record());
  queue_->submit([&] { seen = value; });
  gate.set_value();
  queue_->synchronize();

  EXPECT_EQ(seen, 7);
}

TEST_P(CudaQueues, AfterAnError_SkipLaterTasksAndEveryLaterEventRethrows) {
  bool ran = false;
  const Event before = queue_->record();
  queue_->submit([] { throw DataError("line 7"); });
  const Event first = queue_->record();
  queue_->submit([&] { ran = true; });
  const Event second = queue_->record();

  EXPECT_NO_THROW(before.wait());
  EXPECT_THROW(first.wait(), DataError);
  EXPECT_THROW(first.wait(), DataError);  // and again for the next who waits
  EXPECT_THROW(second.wait(), DataError);
  EXPECT_THROW(queue_->synchronize(), DataError);
  EXPECT_FALSE(ran);
}

TEST_P(CudaQueues, AnErrorPassesToTheQueuesThatWaitForIt) {
  bool ran = false;
  other_->submit([] { throw DataError("line 7"); });

  queue_->wait(other_->record());
  queue_->submit([&] { ran = true; });

  EXPECT_THROW(queue_->synchronize(), DataError);
  EXPECT_FALSE(ran);
}

TEST_P(CudaQueues, AnErrorAfterTheEventDoesNotPass) {
  bool ran = false;
  const Event event = other_->record();
  other_->submit([] { throw DataError("line 7"); });

  queue_->wait(event);
  queue_->submit([&] { ran = true; });

  EXPECT_NO_THROW(queue_->synchronize());
  EXPECT_TRUE(ran);
}

TEST_P(CudaQueues, DestroyedWithWorkLeft_DoItFirst) {
  int done = 0;
  for (int i = 0; i < 10; ++i) queue_->submit([&] { ++done; });
  const Event event = queue_->record();

  queue_.reset();

  EXPECT_EQ(done, 10);
  EXPECT_TRUE(event.ready());  // an event outlives its queue
  EXPECT_NO_THROW(event.wait());
}

TEST_P(CudaQueues, CopiesFollowTheOrder_FromHostToDeviceAndBack) {
  constexpr std::size_t kBytes = std::size_t{8} << 20;
  const Buffer from = device_->allocate(MemoryKind::pinned_host, kBytes);
  const Buffer there = device_->allocate(MemoryKind::device, kBytes);
  const Buffer again = device_->allocate(MemoryKind::device, kBytes);
  const Buffer back = device_->allocate(MemoryKind::pinned_host, kBytes);
  const Buffer last = device_->allocate(MemoryKind::pinned_host, kBytes);
  queue_->submit([&] { std::memset(from.data(), 9, kBytes); });

  device_->copy(*queue_, there.data(), from.data(), kBytes);
  device_->copy(*queue_, again.data(), there.data(), kBytes);
  device_->copy(*queue_, back.data(), again.data(), kBytes);
  device_->copy(*queue_, last.data(), back.data(), kBytes);
  queue_->submit([&] { std::memset(back.data(), 1, kBytes); });
  queue_->synchronize();

  EXPECT_EQ(last.data()[0], std::byte{9});
  EXPECT_EQ(std::memcmp(last.data(), from.data(), kBytes), 0);
}

TEST_P(CudaQueues, CopiesOverTheLink_AreCountedEachWay) {
  constexpr std::size_t kBytes = std::size_t{3} << 20;
  const Buffer host = device_->allocate(MemoryKind::pinned_host, kBytes);
  const Buffer gpu = device_->allocate(MemoryKind::device, kBytes);
  LinkCounter& link = meters_of(*device_)->link();
  const LinkBytes before = link.bytes();

  device_->copy(*queue_, gpu.data(), host.data(), kBytes);
  device_->copy(*queue_, gpu.data(), host.data(), 4096);
  device_->copy(*queue_, host.data(), gpu.data(), 100);
  device_->copy(*queue_, gpu.data() + 8192, gpu.data(), 8192);
  device_->copy(*queue_, host.data() + 8192, host.data(), 8192);
  queue_->synchronize();

  EXPECT_EQ(link.bytes().up - before.up, kBytes + 4096);
  EXPECT_EQ(link.bytes().down - before.down, 100U);
}

TEST_F(CudaDevice, WhatTheDriverSaysIsTaken_GrowsWithWhatIsAllocated) {
  const std::optional<std::size_t> before = meters_of(*device_)->taken_bytes();
  if (!before) GTEST_SKIP() << "the driver does not say how much memory is in use";
  constexpr std::size_t kBytes = std::size_t{512} << 20, kSlack = std::size_t{64} << 20;

  const Buffer gpu = device_->allocate(MemoryKind::device, kBytes);

  EXPECT_NEAR(static_cast<double>(*meters_of(*device_)->taken_bytes()), static_cast<double>(*before + kBytes),
              static_cast<double>(kSlack));
}

TEST_F(CudaDevice, EventsAreUsedAgainWithoutMixingUpWhatTheyMark) {
  std::atomic<int> done = 0;
  for (int i = 1; i <= 200; ++i) {
    compute_->submit([&] { ++done; });
    compute_->record().wait();
    ASSERT_EQ(done, i);
  }
}

TEST_F(CudaDevice, ComputeQueue_AfterAWorker_SeesItsWork) {
  int value = 0;
  int seen = 0;
  worker_->submit([&] { value = 7; });

  compute_->wait(worker_->record());
  compute_->submit([&] { seen = value; });
  compute_->synchronize();

  EXPECT_EQ(seen, 7);
}

TEST_F(CudaDevice, ComputeQueue_AfterAWorkerThatFailed_ThrowsAtOnceAndFromThenOn) {
  bool ran = false;
  worker_->submit([] { throw DataError("line 7"); });

  EXPECT_THROW(compute_->wait(worker_->record()), DataError);
  compute_->submit([&] { ran = true; });

  EXPECT_THROW(compute_->synchronize(), DataError);
  EXPECT_FALSE(ran);
}

TEST_F(CudaDevice, Worker_AfterAComputeQueue_StartsWhenItIsThereAndHasItsErrors) {
  std::promise<void> gate;
  int value = 0;
  int seen = 0;
  compute_->submit([&value, opened = gate.get_future().share()] {
    opened.wait();
    value = 7;
  });
  worker_->wait(compute_->record());
  worker_->submit([&] { seen = value; });
  const Event fine = worker_->record();
  compute_->submit([] { throw DataError("line 7"); });
  worker_->wait(compute_->record());

  gate.set_value();

  EXPECT_NO_THROW(fine.wait());
  EXPECT_EQ(seen, 7);
  EXPECT_THROW(worker_->synchronize(), DataError);
}

TEST_F(CudaDevice, ComputeQueue_WaitsForItsOwnEvent) {
  compute_->wait(compute_->record());

  EXPECT_NO_THROW(compute_->synchronize());
}

TEST_F(CudaDevice, QueuesAreForAnyThread) {
  int done = 0;

  std::thread([&] {
    const auto queue = device_->create_compute_queue();
    queue->submit([&] { ++done; });
    queue->wait(worker_->record());
    queue->synchronize();
  }).join();

  EXPECT_EQ(done, 1);
}

TEST_F(CudaDevice, Memory_IsZeroAlignedAndRoundedUpToPages) {
  for (const MemoryKind kind : {MemoryKind::device, MemoryKind::pinned_host}) {
    for (const std::size_t bytes : {std::size_t{1}, std::size_t{5000}, std::size_t{20} << 20}) {
      const Buffer buffer = device_->allocate(kind, bytes);

      EXPECT_EQ(buffer.bytes(), (bytes + 4095) / 4096 * 4096);
      EXPECT_EQ(buffer.kind(), kind);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 4096, 0U);
      const std::vector<std::byte> bytes_there = content(buffer);
      EXPECT_TRUE(std::all_of(bytes_there.begin(), bytes_there.end(), [](std::byte b) { return b == std::byte{0}; }));
    }
  }
}

TEST_F(CudaDevice, Memory_UsedBefore_IsZeroAgain) {
  constexpr std::size_t kBytes = std::size_t{4} << 20;
  for (int round = 0; round < 3; ++round) {
    const Buffer ones = device_->allocate(MemoryKind::pinned_host, kBytes);
    const Buffer buffer = device_->allocate(MemoryKind::device, kBytes);
    EXPECT_EQ(content(buffer)[kBytes - 1], std::byte{0});
    std::memset(ones.data(), 1, kBytes);
    device_->copy(*compute_, buffer.data(), ones.data(), kBytes);
    compute_->synchronize();
  }
}

TEST_F(CudaDevice, Memory_OfNoBytesIsEmpty) {
  EXPECT_EQ(device_->allocate(MemoryKind::device, 0).data(), nullptr);
  EXPECT_EQ(device_->allocate(MemoryKind::pinned_host, 0).data(), nullptr);
}

TEST_F(CudaDevice, Memory_ThatCannotBeHadIsAnErrorWithTheAmountAndTakesNothing) {
  constexpr std::size_t kTooMuch = std::size_t{1} << 50;
  for (const MemoryKind kind : {MemoryKind::device, MemoryKind::pinned_host}) {
    try {
      static_cast<void>(device_->allocate(kind, kTooMuch));
      FAIL() << "nothing was thrown";
    } catch (const CudaError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::failure);
      EXPECT_THAT(error.what(), testing::HasSubstr(std::to_string(kTooMuch)));
    }
  }
  EXPECT_NE(device_->allocate(MemoryKind::device, 4096).data(), nullptr);
}

TEST_F(CudaDevice, Budget_IsNeverExceededAndComesBackWithTheMemory) {
  constexpr std::size_t kMiB = std::size_t{1} << 20;
  const auto small = make_cuda_device({.budget_bytes = 10 * kMiB});
  Buffer first = small->allocate(MemoryKind::device, 6 * kMiB);

  try {
    static_cast<void>(small->allocate(MemoryKind::device, 5 * kMiB));
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr(std::to_string(5 * kMiB)),
                                             testing::HasSubstr(std::to_string(6 * kMiB)),
                                             testing::HasSubstr(std::to_string(10 * kMiB))));
  }
  EXPECT_NO_THROW(static_cast<void>(small->allocate(MemoryKind::pinned_host, 20 * kMiB)));
  first = Buffer();
  EXPECT_NO_THROW(static_cast<void>(small->allocate(MemoryKind::device, 10 * kMiB)));
}

TEST_F(CudaDevice, Memory_OutlivesTheDevice) {
  Buffer buffer = device_->allocate(MemoryKind::device, 4096);
  compute_.reset();
  worker_.reset();

  device_.reset();

  EXPECT_NO_THROW(buffer = Buffer());
}

TEST_F(CudaDevice, Copy_InAComputeQueueOfMemoryThatIsNotPinned_IsRefused) {
  const Buffer buffer = device_->allocate(MemoryKind::device, 4096);
  const std::vector<std::byte> pageable(4096);

  EXPECT_THROW(device_->copy(*compute_, buffer.data(), pageable.data(), 4096), Error);
}

TEST_F(CudaDevice, Copy_InAQueueOfAnotherDevice_IsRefused) {
  const Buffer buffer = device_->allocate(MemoryKind::device, 8192);
  const auto foreign = make_host_device()->create_worker_queue("foreign");

  EXPECT_THROW(device_->copy(*foreign, buffer.data(), buffer.data() + 4096, 4096), Error);
}

TEST_F(CudaDevice, RecordedWork_RunsWhenAskedAndReadsWhatIsThereThen) {
  const Buffer host = device_->allocate(MemoryKind::pinned_host, 2), gpu = device_->allocate(MemoryKind::device, 1);
  host.data()[0] = std::byte{1};

  const auto recording = device_->record_work(*compute_, [&] {
    device_->copy(*compute_, gpu.data(), host.data(), 1);
    device_->copy(*compute_, host.data() + 1, gpu.data(), 1);
  });
  compute_->synchronize();
  EXPECT_EQ(host.data()[1], std::byte{0});
  for (const int value : {2, 3}) {
    host.data()[0] = static_cast<std::byte>(value);
    recording->run(*compute_);
    compute_->synchronize();
    EXPECT_EQ(host.data()[1], static_cast<std::byte>(value));
  }
}

TEST_F(CudaDevice, RecordedWork_ThatThrows_LeavesTheQueueAsItWas) {
  const Buffer host = device_->allocate(MemoryKind::pinned_host, 2), gpu = device_->allocate(MemoryKind::device, 1);
  host.data()[0] = std::byte{5};

  EXPECT_THROW(static_cast<void>(device_->record_work(*compute_, [] { throw DataError("no"); })), DataError);

  device_->copy(*compute_, gpu.data(), host.data(), 1);
  compute_->synchronize();
  EXPECT_EQ(content(gpu).front(), std::byte{5});
}

TEST_F(CudaDevice, ListedGpu_CanBeAskedForByItsUuid) {
  const std::vector<CudaGpu> gpus = list_cuda_gpus();
  const CudaGpu& last = gpus.back();

  const auto device = make_cuda_device({.uuid = last.uuid});

  EXPECT_EQ(device->name(), last.name);
  EXPECT_THAT(last.uuid, testing::StartsWith("GPU-"));
  EXPECT_EQ(last.uuid.size(), 40U);
  EXPECT_GE(last.capability_major, 7);
  EXPECT_GT(last.total_bytes, std::size_t{1} << 30);
  EXPECT_THAT(last.pci_bus_id, testing::HasSubstr(":"));
}

TEST_F(CudaDevice, Marks_TellWhenTheQueueCameToThem_ByTheHostsClock) {
  using std::chrono::steady_clock;
  const std::chrono::duration<double> slack(1e-4);
  const auto marks = device_->create_marks(3);
  const Buffer from = device_->allocate(MemoryKind::pinned_host, std::size_t{64} << 20);
  const Buffer to = device_->allocate(MemoryKind::device, from.bytes());
  const auto before = steady_clock::now();

  marks->synchronize_clocks();
  marks->set(*compute_, 2);
  device_->copy(*compute_, to.data(), from.data(), from.bytes());
  marks->set(*compute_, 0);
  const double seconds = marks->seconds(2, 0);
  const auto after = steady_clock::now();

  EXPECT_GT(seconds, 1e-4);  // at most 640 GB/s
  EXPECT_LT(seconds, 10.0);
  EXPECT_GE(marks->at(2) + slack, before);
  EXPECT_LE(marks->at(0), after + slack);
  EXPECT_NEAR(std::chrono::duration<double>(marks->at(0) - marks->at(2)).count(), seconds, 1e-5);
}

TEST_F(CudaDevice, Marks_AreOfComputeQueues) {
  const auto marks = device_->create_marks(1);

  EXPECT_THROW(marks->set(*worker_, 0), Error);
}

}  // namespace
}  // namespace spillway
