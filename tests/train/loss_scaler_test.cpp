// SPDX-License-Identifier: Apache-2.0
#include "train/loss_scaler.hpp"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace spillway::train {
namespace {

/// The scales after steps with ('x') and without ('.') an overflow.
std::vector<double> scales_after(LossScaler& scaler, const std::string& steps) {
  std::vector<double> scales;
  for (const char step : steps) {
    scaler.update(step == 'x');
    scales.push_back(scaler.scale());
  }
  return scales;
}

using Scales = std::vector<double>;

TEST(LossScaler, BeginsAtThePowerThatIsAskedFor) {
  EXPECT_EQ(LossScaler({}).scale(), 65536.0);
  EXPECT_EQ(LossScaler({.initial_scale_power = 0}).scale(), 1.0);
  EXPECT_EQ(LossScaler({.initial_scale_power = 32}).scale(), 4294967296.0);
}

TEST(LossScaler, AFixedScale_NeverChanges) {
  LossScaler scaler({.fixed = 100.0, .window = 1, .hysteresis = 1});

  EXPECT_EQ(scales_after(scaler, "xx....x"), Scales(7, 100.0));
  EXPECT_FALSE(scaler.exhausted());
}

TEST(LossScaler, TheFirstOverflow_UsesUpTheHysteresis_AndTheNextOnesHalve) {
  LossScaler scaler({.initial_scale_power = 5, .window = 100, .hysteresis = 3});

  EXPECT_EQ(scales_after(scaler, "x.x.xx"), Scales({32, 32, 32, 32, 16, 8}));
}

TEST(LossScaler, AWindowWithoutOverflow_DoublesTheScale_CountedFromTheStepAfterTheLastOne) {
  LossScaler scaler({.initial_scale_power = 5, .window = 3, .hysteresis = 1});

  EXPECT_EQ(scales_after(scaler, "x......."), Scales({16, 16, 16, 16, 32, 32, 32, 64}));
}

TEST(LossScaler, WithoutAnyOverflow_TheFirstStepIsNoPartOfTheWindow) {
  LossScaler scaler({.initial_scale_power = 1, .window = 2});

  EXPECT_EQ(scales_after(scaler, "....."), Scales({2, 2, 4, 4, 8}));
}

TEST(LossScaler, AWindow_RestoresTheHysteresis) {
  LossScaler scaler({.initial_scale_power = 5, .window = 2, .hysteresis = 2});

  EXPECT_EQ(scales_after(scaler, "x...xx"), Scales({32, 32, 32, 64, 64, 32}));
}

TEST(LossScaler, WithoutConsecutiveHysteresis_AGoodStepRestoresNothing) {
  LossScaler scaler({.initial_scale_power = 5, .window = 10, .hysteresis = 2});

  EXPECT_EQ(scales_after(scaler, "x.x"), Scales({32, 32, 16}));
}

TEST(LossScaler, WithConsecutiveHysteresis_AGoodStepRestoresIt) {
  LossScaler scaler({.initial_scale_power = 5, .window = 10, .hysteresis = 2}, true);

  EXPECT_EQ(scales_after(scaler, "x.x.xx"), Scales({32, 32, 32, 32, 32, 16}));
}

TEST(LossScaler, NeverFallsBelowTheMinimum_AndIsExhaustedThere) {
  LossScaler scaler({.initial_scale_power = 2, .window = 10, .hysteresis = 1, .min = 2.0});
  EXPECT_FALSE(scaler.exhausted());

  EXPECT_EQ(scales_after(scaler, "xx"), Scales({2, 2}));
  EXPECT_TRUE(scaler.exhausted());
}

TEST(LossScaler, RestoredInTheMiddle_GoesOnAsIfItHadNotStopped) {
  const LossScaleOptions options{.initial_scale_power = 8, .window = 3, .hysteresis = 2};
  LossScaler whole(options), resumed(options);
  (void)scales_after(whole, "x..x.");

  resumed.restore(whole.state());

  EXPECT_EQ(scales_after(resumed, "...x....xx"), scales_after(whole, "...x....xx"));
  EXPECT_EQ(resumed.state(), whole.state());
}

TEST(LossScaler, RestoredUnderOtherOptions_KeepsTheirFixedScaleAndTheirHysteresis) {
  LossScaler before({.hysteresis = 5});
  LossScaler fixed({.fixed = 8.0}), smaller({.initial_scale_power = 3, .hysteresis = 2});

  fixed.restore(before.state());
  smaller.restore(before.state());

  EXPECT_EQ(fixed.scale(), 8.0);
  EXPECT_EQ(smaller.scale(), 65536.0);
  EXPECT_EQ(smaller.state().hysteresis, 2);
}

}  // namespace
}  // namespace spillway::train
