// SPDX-License-Identifier: Apache-2.0
#include "train/cpu_ring.hpp"

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "support/separate_device.hpp"

namespace spillway::train {
namespace {

constexpr std::size_t kPlaceBytes = 4096, kPlaces = 2, kExtents = 5, kBytes = 1000, kOffset = 2048;

class CpuRingTest : public testing::TestWithParam<bool> {
 protected:
  CpuRing ring() {
    return {*device_, TensorView(places_.data(), DType::u8, {static_cast<std::int64_t>(places_.bytes())}), kPlaceBytes,
            GetParam()};
  }
  std::byte* on_device(std::size_t extent, std::size_t piece) { return memory_.data() + (2 * extent + piece) * kBytes; }
  /// A gradient, which is only read, and a weight.
  void fetch(CpuRing& ring, std::size_t extent) {
    std::byte* const place = ring.next_place();
    ring.fetch(extent,
               {{.on_device = on_device(extent, 0), .on_host = place, .bytes = kBytes, .changes = false},
                {.on_device = on_device(extent, 1), .on_host = place + kOffset, .bytes = kBytes, .changes = true}});
  }
  /// Each number of the weight and of the gradient where it lies.
  static void add(std::byte* place) {
    for (std::size_t i = 0; i < kBytes; ++i) {
      std::byte& weight = place[kOffset + i];
      weight = static_cast<std::byte>(std::to_integer<unsigned>(weight) + std::to_integer<unsigned>(place[i]));
      place[i] = std::byte{77};
    }
  }

  std::unique_ptr<Device> device_ = test::make_separate_device();
  Buffer places_ = device_->allocate(MemoryKind::pinned_host, kPlaces* kPlaceBytes);
  Buffer memory_ = device_->allocate(MemoryKind::device, 2 * kExtents * kBytes);
};

TEST_P(CpuRingTest, WhatChanges_GoesUpAgain_AndWhatDoesNotStaysAsItWas) {
  const auto at = [](std::size_t i) { return i % 251; };
  for (std::size_t i = 0; i < 2 * kExtents * kBytes; ++i) memory_.data()[i] = static_cast<std::byte>(at(i));
  {
    CpuRing ring = this->ring();
    for (int round = 0; round < 3; ++round) {
      std::size_t fetched = 0;
      for (std::size_t extent = 0; extent < kExtents; ++extent) {
        for (; fetched < kExtents && ring.has_room(); ++fetched) fetch(ring, fetched);
        ring.take(extent);
        add(ring.taken_place());
        ring.give_back();
      }
    }
    ring.synchronize();
  }

  for (std::size_t extent = 0; extent < kExtents; ++extent)
    for (std::size_t i = 0; i < kBytes; ++i) {
      const std::size_t gradient = at(2 * extent * kBytes + i), weight = at((2 * extent + 1) * kBytes + i);
      ASSERT_EQ(std::to_integer<std::size_t>(on_device(extent, 0)[i]), gradient);
      ASSERT_EQ(std::to_integer<std::size_t>(on_device(extent, 1)[i]), (weight + 3 * gradient) % 256);
    }
}

TEST_P(CpuRingTest, Extents_AreTakenInTheOrderInWhichTheyWereFetched) {
  CpuRing ring = this->ring();
  fetch(ring, 3);
  fetch(ring, 1);

  EXPECT_FALSE(ring.has_room());
  EXPECT_THROW(fetch(ring, 2), Error);
  EXPECT_THROW(ring.take(1), Error);
  ring.take(3);
  EXPECT_THROW(ring.take(1), Error);
  EXPECT_FALSE(ring.has_room());
  ring.give_back();
  EXPECT_TRUE(ring.has_room());
}

TEST_P(CpuRingTest, WithoutRoomForOnePlace_IsRefused) {
  const TensorView small(places_.data(), DType::u8, {100});

  EXPECT_THROW(CpuRing(*device_, small, kPlaceBytes, false), Error);
}

INSTANTIATE_TEST_SUITE_P(WaitAtOnce, CpuRingTest, testing::Bool());

}  // namespace
}  // namespace spillway::train
