// SPDX-License-Identifier: Apache-2.0
#include "app/overrides.hpp"

#include <cstdlib>

#include <gmock/gmock.h>

#include "app/expect_config_error.hpp"

namespace spillway::app {
namespace {

TEST(SettingsFromEnvironment, TakesSectionAndKeyOutOfTheName) {
  const auto settings = settings_from_environment(
      {"PATH=/bin", "SPILLWAY_TRAIN_SEED=7", "SPILLWAY_LOSS_SCALE_INITIAL_SCALE_POWER=8", "SPILLWAY_DATA_TRAIN=a=b"});

  ASSERT_EQ(settings.size(), 3U);
  EXPECT_EQ(settings[0].section + "." + settings[0].key, "train.seed");
  EXPECT_EQ(settings[0].origin, "SPILLWAY_TRAIN_SEED");
  EXPECT_EQ(toml_text(settings[0].value), "7");
  EXPECT_EQ(settings[1].section + "." + settings[1].key, "loss_scale.initial_scale_power");
  EXPECT_EQ(toml_text(settings[2].value), "\"a=b\"");
}

TEST(SettingsFromEnvironment, PassesOverNamesOfNoSection) {
  EXPECT_TRUE(
      settings_from_environment({"SPILLWAY_HOME=x", "SPILLWAY_TRAINER=y", "XSPILLWAY_TRAIN_SEED=1", "odd"}).empty());
}

TEST(SettingsFromEnvironment, AnUnknownKeyOfASection_IsNamed) {
  EXPECT_EQ(config_error_of([] { (void)settings_from_environment({"SPILLWAY_TRAIN_SED=1"}); }),
            "SPILLWAY_TRAIN_SED: unknown key train.sed; the nearest is train.seed");
}

TEST(ProcessEnvironment, HasTheVariablesOfTheProcess) {
  setenv("SPILLWAY_TEST_OF_ENVIRONMENT", "yes", 1);

  const auto lines = process_environment();

  EXPECT_THAT(lines, ::testing::Contains("SPILLWAY_TEST_OF_ENVIRONMENT=yes"));
  unsetenv("SPILLWAY_TEST_OF_ENVIRONMENT");
}

TEST(SettingsFromArguments, ParsesValuesAsToml) {
  const auto settings = settings_from_arguments(
      {"train.seed=7", "optimizer.betas=[0.5, 0.6]", "data.source_prefix=a=b.c", "model.tokenizer="}, "--set");

  ASSERT_EQ(settings.size(), 4U);
  EXPECT_EQ(settings[0].origin, "--set");
  EXPECT_EQ(toml_text(settings[0].value), "7");
  EXPECT_EQ(toml_text(settings[1].value), "[0.5, 0.6]");
  EXPECT_EQ(toml_text(settings[2].value), "\"a=b.c\"");
  EXPECT_EQ(toml_text(settings[3].value), "\"\"");
}

TEST(SettingsFromArguments, AKeyThatTakesText_TakesNumbersAndDatesAsText) {
  const auto settings = settings_from_arguments(
      {"train.output_dir=2026", "model.path=\"1\"", "train.output_dir=2026-01-02", "data.source_prefix=true"}, "--set");

  EXPECT_EQ(toml_text(settings[0].value), "\"2026\"");
  EXPECT_EQ(toml_text(settings[1].value), "\"1\"");
  EXPECT_EQ(toml_text(settings[2].value), "\"2026-01-02\"");
  EXPECT_EQ(toml_text(settings[3].value), "\"true\"");
}

TEST(SettingsFromArguments, WhatIsNoAssignmentOrNoKey_IsNamed) {
  const auto error = [](const std::string& text) {
    return config_error_of([&] { (void)settings_from_arguments({text}, "--set"); });
  };

  EXPECT_EQ(error("train.seed"), "--set train.seed: expected section.key=value");
  EXPECT_EQ(error("seed=1.5"), "--set seed=1.5: expected section.key=value");
  EXPECT_EQ(error("train.sed=1"), "--set: unknown key train.sed; the nearest is train.seed");
  EXPECT_EQ(error("trian.seed=1"), "--set: unknown section [trian]; the nearest is [train]");
}

}  // namespace
}  // namespace spillway::app
