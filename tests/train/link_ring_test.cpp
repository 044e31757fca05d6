// SPDX-License-Identifier: Apache-2.0
#include "train/link_ring.hpp"

#include <array>
#include <cstring>
#include <future>

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "support/separate_device.hpp"
#include "train/update_events.hpp"

namespace spillway::train {
namespace {

constexpr std::size_t kPlaceBytes = 4096, kPlaces = 2, kExtents = 5, kBytes = 1000, kOffset = 2048;

class LinkRingTest : public testing::TestWithParam<bool> {
 protected:
  LinkRing ring() {
    return {*device_, TensorView(places_.data(), DType::u8, {static_cast<std::int64_t>(places_.bytes())}), kPlaceBytes,
            kExtents, GetParam()};
  }
  std::byte* on_host(std::size_t extent, std::size_t piece) { return host_.data() + (2 * extent + piece) * kBytes; }
  std::vector<LinkRing::Piece> pieces(std::size_t extent, std::byte* place) {
    return {{.on_host = on_host(extent, 0), .on_device = place, .bytes = kBytes},
            {.on_host = on_host(extent, 1), .on_device = place + kOffset, .bytes = kBytes}};
  }

  std::unique_ptr<Device> device_ = make_host_device();
  Buffer places_ = device_->allocate(MemoryKind::device, kPlaces* kPlaceBytes);
  Buffer host_ = device_->allocate(MemoryKind::pinned_host, 2 * kExtents * kBytes);
  std::unique_ptr<Queue> queue_ = device_->create_compute_queue();
};

TEST_P(LinkRingTest, Extents_GoThereAndComeBackChanged_MoreOftenThanThereArePlaces) {
  for (std::size_t i = 0; i < 2 * kExtents * kBytes; ++i) host_.data()[i] = static_cast<std::byte>(i % 251);
  {
    LinkRing ring = this->ring();
    for (int round = 0; round < 3; ++round)
      for (std::size_t extent = 0; extent < kExtents; ++extent) {
        std::byte* const place = ring.next_place();
        ring.bring(*queue_, extent, pieces(extent, place));
        queue_->submit([place] {
          for (const std::size_t begin : {std::size_t{0}, kOffset})
            for (std::size_t i = 0; i < kBytes; ++i)
              place[begin + i] = static_cast<std::byte>(std::to_integer<unsigned>(place[begin + i]) + 1);
        });
        ring.take_back(*queue_);
      }
    ring.synchronize();
  }

  for (std::size_t i = 0; i < 2 * kExtents * kBytes; ++i)
    ASSERT_EQ(std::to_integer<unsigned>(host_.data()[i]), (i % 251 + 3) % 256) << i;
}

TEST_P(LinkRingTest, WhatOnlyTheUpdateReads_DoesNotComeBack) {
  for (std::size_t i = 0; i < 2 * kExtents * kBytes; ++i) host_.data()[i] = std::byte{7};
  {
    LinkRing ring = this->ring();
    std::byte* const place = ring.next_place();
    std::vector<LinkRing::Piece> both = pieces(3, place);
    both[1].comes_back = false;
    ring.bring(*queue_, 3, both);
    queue_->submit([place] {
      EXPECT_EQ(place[kOffset], std::byte{7});
      place[0] = place[kOffset] = std::byte{9};
    });
    ring.take_back(*queue_);
    ring.synchronize();
  }

  EXPECT_EQ(on_host(3, 0)[0], std::byte{9});
  EXPECT_EQ(on_host(3, 1)[0], std::byte{7});
}

/// Extents that may be given to a ring of another device while none comes back.
std::size_t given_at_once(std::size_t bytes) {
  const auto device = test::make_separate_device();
  const Buffer places = device->allocate(MemoryKind::device, kPlaces * kPlaceBytes);
  const Buffer host = device->allocate(MemoryKind::pinned_host, kPlaceBytes);
  const auto queue = device->create_compute_queue();
  LinkRing ring(*device, TensorView(places.data(), DType::u8, {static_cast<std::int64_t>(places.bytes())}), kPlaceBytes,
                2 * LinkRing::kMostOnTheirWay, false);
  std::promise<void> go;
  queue->submit([over = go.get_future().share()] { over.wait(); });
  std::size_t given = 0;
  for (; ring.has_room() && given < 2 * LinkRing::kMostOnTheirWay; ++given) {
    ring.bring(*queue, given, {{.on_host = host.data(), .on_device = ring.next_place(), .bytes = bytes}});
    ring.take_back(*queue);
  }
  go.set_value();
  ring.wait_for_room();
  EXPECT_TRUE(ring.has_room());
  return given;
}

TEST(LinkRingOfAnotherDevice, HasRoom_WhileFewExtentsAndBytesAreOnTheirWay) {
  EXPECT_EQ(given_at_once(kPlaceBytes), kPlaces);
  EXPECT_EQ(given_at_once(kPlaceBytes / 2), 2 * kPlaces);
  EXPECT_EQ(given_at_once(16), LinkRing::kMostOnTheirWay);
}

TEST(UpdateEvents, WhatWasNotStarted_IsNotWaitedFor) {
  EXPECT_FALSE(not_started(3).ready());
  EXPECT_THROW(not_started(3).wait(), Error);
}

TEST_P(LinkRingTest, ASecondExtent_IsRefusedWhileOneIsThere) {
  LinkRing ring = this->ring();
  ring.bring(*queue_, 1, pieces(1, ring.next_place()));

  EXPECT_THROW(ring.bring(*queue_, 2, pieces(2, ring.next_place())), Error);
}

TEST_P(LinkRingTest, WithoutRoomForOnePlace_IsRefused) {
  const TensorView small(places_.data(), DType::u8, {100});

  EXPECT_THROW(LinkRing(*device_, small, kPlaceBytes, kExtents, false), Error);
}

INSTANTIATE_TEST_SUITE_P(WaitAtOnce, LinkRingTest, testing::Bool());

}  // namespace
}  // namespace spillway::train
