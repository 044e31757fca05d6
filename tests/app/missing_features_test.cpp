// SPDX-License-Identifier: Apache-2.0
#include "app/missing_features.hpp"

#include <gmock/gmock.h>

#include "app/expect_config_error.hpp"
#include "app/overrides.hpp"
#include "app/run_config.hpp"

namespace spillway::app {
namespace {

void set(const std::string& text) { (void)run_options_of(settings_from_arguments({text}, "--set")); }

class Refused : public ::testing::TestWithParam<const char*> {};

TEST_P(Refused, WhenSet) {
  EXPECT_THAT(config_error_of([] { set(GetParam()); }), ::testing::HasSubstr("which this version does not have yet"));
}

INSTANTIATE_TEST_SUITE_P(MissingFeatures, Refused,
                         ::testing::Values("train.collective_timeout=6m", "train.consistency_check_steps=1"));

TEST(Accepted, WhatSwitchesAMissingFeatureOff_OrIsTheDefault) {
  for (const char* text :
       {"train.freeze_embeds=false", "train.tf32=false", "train.consistency_check_steps=0",
        "optimizer.relative_step=false", "report.html=false", "report.html=true", "train.collective_timeout=300s",
        "optimizer.clip_threshold=1", "offload.optimizer_on=split", "report.trace=true", "report.trace_first=1"}) {
    EXPECT_NO_THROW(set(text)) << text;
  }
}

TEST(MissingFeature, IsSaidInTheMessage) {
  EXPECT_EQ(config_error_of([] { set("train.collective_timeout=6m"); }),
            "--set: train.collective_timeout = \"6m\" asks for a time limit for collectives, which this version does "
            "not have yet");
}

}  // namespace
}  // namespace spillway::app
