// SPDX-License-Identifier: Apache-2.0
#include "offload/state_ring.hpp"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include <gmock/gmock.h>

#include "offload/store_fixture.hpp"
#include "support/faulty_store.hpp"

namespace spillway::offload {
namespace {

using namespace std::chrono_literals;
using test::AlignedBytes;
using test::Faults;
using ::testing::HasSubstr;

constexpr std::size_t kExtents = 12;

/// A ring over a memory store whose transfers can be slowed down, made to fail, and counted.
class StateRingTest : public ::testing::Test {
 protected:
  StateRingTest() : faulty_(*memory_store_, {}) {
    std::vector<std::vector<std::size_t>> sizes;
    for (std::size_t i = 0; i < kExtents; ++i) sizes.push_back({1000 + i, 500});
    const ExtentStoreOptions options{.directories = {"x"}, .folder = "y", .kinds = {"exp_avg", "exp_avg_sq"}};
    extents_.emplace(faulty_, options, sizes);
  }

  StateRing& make(int slots, bool wait_at_once = false) {
    memory_.emplace(StateRing::bytes_needed(*extents_, slots));
    return ring_.emplace(*extents_, memory_->span(), StateRingOptions{.slots = slots, .wait_at_once = wait_at_once});
  }

  /// One optimizer step: adds 1 to every byte of every extent, reading ahead as far as the ring lets it.
  void update_all(StateRing& ring, std::chrono::milliseconds work) {
    std::size_t next = 0;
    for (std::size_t extent = 0; extent < kExtents; ++extent) {
      const auto lease = ring.acquire(extent);
      next = std::max(next, extent + 1);
      while (next < kExtents && ring.prefetch(next)) ++next;
      std::this_thread::sleep_for(work);
      for (std::size_t kind = 0; kind < 2; ++kind) {
        for (auto& byte : lease.state(kind)) byte = static_cast<std::byte>(static_cast<int>(byte) + 1);
      }
    }
    ring.drain();
  }

  void expect_everywhere(std::byte value) {
    for (std::size_t extent = 0; extent < kExtents; ++extent) {
      for (std::size_t kind = 0; kind < 2; ++kind) {
        const AlignedBytes back(extents_->stored_bytes(extent, kind));
        extents_->read(extent, kind, back.span()).wait();
        EXPECT_THAT(back.span(), ::testing::Each(value));
      }
    }
  }

  std::unique_ptr<BlockStore> memory_store_ = make_memory_store();
  test::FaultyStore faulty_;
  std::optional<ExtentStore> extents_;
  std::optional<AlignedBytes> memory_;
  std::optional<StateRing> ring_;
};

TEST_F(StateRingTest, BytesNeeded_AreSlotsTimesTheLargestExtentOfEachKind) {
  const std::vector<std::size_t> largest{1011, 500};

  EXPECT_EQ(StateRing::bytes_needed(*extents_, 3), 3u * 1511);
  EXPECT_EQ(StateRing::bytes_needed(largest, 2, 4096), 2u * 2 * 4096);
}

TEST_F(StateRingTest, Updates_ReachTheStore_WithAnyNumberOfSlots) {
  unsigned step = 0;
  for (const int slots : {1, 2, 3, 5, 20}) {
    StateRing& ring = make(slots);

    update_all(ring, 0ms);

    expect_everywhere(static_cast<std::byte>(++step));
  }
}

TEST_F(StateRingTest, EveryExtent_IsReadOnceAndWrittenOnceAStep) {
  StateRing& ring = make(4);

  update_all(ring, 0ms);

  EXPECT_EQ(faulty_.counters().reads, kExtents * 2);
  EXPECT_EQ(faulty_.counters().writes, kExtents * 2);
}

TEST_F(StateRingTest, ReadsUpdatesAndWritesOverlap_AndWaitingAtOnceTakesThemApart) {
  using Clock = std::chrono::steady_clock;
  faulty_.set_faults({.latency = 10ms});
  const auto seconds = [this](bool wait_at_once) {
    StateRing& ring = make(6, wait_at_once);
    const auto begin = Clock::now();
    update_all(ring, 10ms);
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };

  const double overlapped = seconds(false);
  const double blocked_overlapped = ring_->blocked_seconds();
  const double apart = seconds(true);
  const double blocked_apart = ring_->blocked_seconds();

  // 12 extents: 10 ms of work each, and 20 ms of transfers each of which the ring hides all but the ends.
  EXPECT_GT(apart, 0.36);
  EXPECT_GT(blocked_apart, 0.24);
  EXPECT_LT(blocked_overlapped, 0.5 * blocked_apart);
  EXPECT_LT(overlapped, 0.75 * apart);
}

TEST_F(StateRingTest, Prefetch_DoesNotBlockAndSaysWhetherTheExtentIsOnItsWay) {
  constexpr auto kLatency = 100ms;
  faulty_.set_faults({.latency = kLatency});
  StateRing& ring = make(2);
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::steady_clock::now() - begin; };

  EXPECT_TRUE(ring.prefetch(3));
  EXPECT_TRUE(ring.prefetch(3));
  EXPECT_TRUE(ring.prefetch(4));
  EXPECT_FALSE(ring.prefetch(5));  // no slot
  EXPECT_LT(elapsed(), kLatency);
  EXPECT_EQ(ring.blocked_seconds(), 0);

  auto lease = ring.acquire(3);
  EXPECT_GE(elapsed(), kLatency);
  EXPECT_GT(ring.blocked_seconds(), 0);
  EXPECT_FALSE(ring.prefetch(3));  // leased

  lease.release();
  EXPECT_FALSE(ring.prefetch(3));  // still being written back
  std::this_thread::sleep_for(kLatency);
  EXPECT_TRUE(ring.prefetch(3));  // written back: the slot is free again
}

TEST_F(StateRingTest, AcquireWhileWrittenBack_SeesTheUpdate) {
  faulty_.set_faults({.latency = 5ms});
  StateRing& ring = make(2);
  ring.acquire(0).state(0)[0] = std::byte{7};

  const auto again = ring.acquire(0);

  EXPECT_EQ(again.state(0)[0], std::byte{7});
}

TEST_F(StateRingTest, Leases_KnowTheirExtentAndItsBytes) {
  StateRing& ring = make(3);

  const auto first = ring.acquire(2);
  const auto second = ring.acquire(5);

  EXPECT_EQ(first.extent(), 2u);
  EXPECT_EQ(second.extent(), 5u);
  EXPECT_EQ(first.state(0).size(), 1002u);
  EXPECT_EQ(second.state(0).size(), 1005u);
  EXPECT_EQ(second.state(1).size(), 500u);
  EXPECT_NE(first.state(0).data(), second.state(0).data());
}

TEST_F(StateRingTest, RingThatCannotServe_SaysSoAndDoesNotHang) {
  StateRing& ring = make(2);
  const auto first = ring.acquire(0);
  const auto second = ring.acquire(1);

  EXPECT_THAT(message_of<Error>([&] { (void)ring.acquire(2); }), HasSubstr("all 2 are leased or prefetched"));
  EXPECT_THAT(message_of<Error>([&] { (void)ring.acquire(1); }), HasSubstr("extent 1 is leased already"));
  EXPECT_THAT(message_of<Error>([&] { ring.drain(); }), HasSubstr("extent 0 is leased"));
}

TEST_F(StateRingTest, CorruptRead_IsThrownByAcquireAndTheSlotIsFreeAgain) {
  StateRing& ring = make(1);
  ring.acquire(4).state(1)[9] = std::byte{1};
  ring.drain();
  faulty_.set_faults({.corrupted_read = 1, .corrupted_byte = 9});

  const auto message = message_of<IoError>([&] { (void)ring.acquire(4); });

  EXPECT_THAT(message, HasSubstr("extent 4, exp_avg_sq"));
  EXPECT_EQ(ring.acquire(4).state(1)[9], std::byte{1});
}

TEST_F(StateRingTest, FailingWriteBack_IsThrownByALaterCall) {
  faulty_.set_faults({.failing_write = 1});
  StateRing& ring = make(2);
  ring.acquire(0).release();

  const auto message = message_of<IoError>([&] { ring.drain(); });

  EXPECT_THAT(message, HasSubstr("No space left on device"));
  EXPECT_NO_THROW(ring.drain());
}

TEST_F(StateRingTest, WriteBackFailingInALeasesDestructor_IsThrownByTheNextCall) {
  faulty_.set_faults({.failing_write = 0});
  StateRing& ring = make(2, true);
  { const auto lease = ring.acquire(0); }

  EXPECT_THROW((void)ring.prefetch(1), IoError);
  EXPECT_TRUE(ring.prefetch(1));
}

TEST_F(StateRingTest, Drain_DropsWhatWasPrefetched) {
  StateRing& ring = make(1);
  ASSERT_TRUE(ring.prefetch(0));

  ring.drain();

  EXPECT_TRUE(ring.prefetch(1));
}

TEST_F(StateRingTest, MemoryTooSmall_IsRefused) {
  const AlignedBytes memory(1000);

  const auto message = message_of<Error>([&] { StateRing(*extents_, memory.span(), {.slots = 2}); });

  EXPECT_THAT(message, HasSubstr("in 1000 bytes; 3022 expected"));
}

TEST(StateRingOnDisk, Update_IsExactOverEveryStore) {
  const test::ScratchDirectory directory;
  if (directory.in_memory()) GTEST_SKIP() << "the working directory is a tmpfs";
  const auto store = make_store("auto", {.queue_depth = 8});
  ExtentStore extents(*store, {.directories = {directory.path()}, .folder = "job", .kinds = {"exp_avg"}},
                      std::vector<std::vector<std::size_t>>(8, {100000}));
  const AlignedBytes memory(StateRing::bytes_needed(extents, 3));
  store->register_buffer(memory.span());
  StateRing ring(extents, memory.span(), {.slots = 3});

  for (int step = 1; step <= 3; ++step) {
    for (std::size_t extent = 0; extent < 8; ++extent) {
      const auto lease = ring.acquire(extent);
      (void)ring.prefetch((extent + 1) % 8);
      for (auto& byte : lease.state(0)) {
        ASSERT_EQ(byte, static_cast<std::byte>((step - 1) * static_cast<int>(extent)));
        byte = static_cast<std::byte>(step * static_cast<int>(extent));
      }
    }
  }
  ring.drain();

  EXPECT_EQ(store->counters().writes, 24u);
}

}  // namespace
}  // namespace spillway::offload
