// SPDX-License-Identifier: Apache-2.0
#include "train/host_gradients.hpp"

#include <algorithm>

#include <gtest/gtest.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

constexpr std::int64_t kLargest = 512;
constexpr std::size_t kSlotBytes = kLargest * sizeof(float);

/// Three units, of which the second one's gradient rests in device memory.
class HostGradientsTest : public testing::TestWithParam<bool> {
 protected:
  [[nodiscard]] TensorView slots(std::size_t bytes = 2 * kSlotBytes) const {
    return {slots_.data(), DType::u8, {static_cast<std::int64_t>(bytes)}};
  }
  [[nodiscard]] std::vector<TensorView> places() const {
    return {{host_.data(), DType::f32, {kLargest}}, {}, {host_.data() + kSlotBytes, DType::f32, {kLargest / 2}}};
  }
  void make(HostGradients& gradients, int unit, float value) {
    const TensorView slot = gradients.open(*queue_, unit);
    queue_->submit([slot, value] { std::ranges::fill(TensorView(slot).as<float>(), value); });
    gradients.leave(*queue_, unit);
  }

  std::unique_ptr<Device> device_ = make_host_device();
  Buffer slots_ = device_->allocate(MemoryKind::device, 2 * kSlotBytes);
  Buffer host_ = device_->allocate(MemoryKind::pinned_host, 2 * kSlotBytes);
  std::unique_ptr<Queue> queue_ = device_->create_compute_queue();
};

TEST_P(HostGradientsTest, WhatIsMadeInASlot_ComesToItsPlace) {
  HostGradients gradients(*device_, slots(), places(), GetParam());
  for (int step = 1; step <= 3; ++step)
    for (const int unit : {2, 0}) {
      make(gradients, unit, static_cast<float>(10 * step + unit));
      gradients.there(unit).wait();
      for (const float value : gradients.at_rest(unit).as<float>())
        EXPECT_EQ(value, static_cast<float>(10 * step + unit));
    }

  EXPECT_TRUE(gradients.holds(0));
  EXPECT_FALSE(gradients.holds(1));
  EXPECT_EQ(gradients.at_rest(2).elements(), kLargest / 2);
}

TEST_P(HostGradientsTest, SlotsAreTakenInTurn_OneAtATime) {
  HostGradients gradients(*device_, slots(), places(), GetParam());

  const TensorView first = gradients.open(*queue_, 0);
  EXPECT_THROW((void)gradients.open(*queue_, 2), Error);
  EXPECT_THROW(gradients.leave(*queue_, 2), Error);
  HostGradients others(*device_, slots(), places(), GetParam());
  make(others, 0, 1.0F);

  EXPECT_EQ(others.open(*queue_, 2).data(), first.data() + kSlotBytes);
}

TEST_P(HostGradientsTest, SlotsThatAreTooSmall_AreRefused) {
  EXPECT_THROW(HostGradients(*device_, slots(2 * kSlotBytes - 4096), places(), GetParam()), Error);
}

INSTANTIATE_TEST_SUITE_P(WaitAtOnce, HostGradientsTest, testing::Bool());

}  // namespace
}  // namespace spillway::train
