// SPDX-License-Identifier: Apache-2.0
#include "app/toml_reader.hpp"

#include <fstream>

#include <gmock/gmock.h>

#include "app/expect_config_error.hpp"

namespace spillway::app {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string error_in(const std::string& text) {
  return config_error_of([&] { (void)read_toml_text(text, "run.toml"); });
}

TEST(ReadTomlText, GivesSettingsInTheOrderOfTheLinesWithTheirPlaces) {
  const auto settings =
      read_toml_text("[train]\n  seed  =  3 # why\nmax_steps=4\n\n[data]\ntrain = \"a\"\n", "run.toml");

  ASSERT_EQ(settings.size(), 3U);
  EXPECT_EQ(settings[0].key, "seed");
  EXPECT_EQ(settings[0].origin, "run.toml:2:12");
  EXPECT_EQ(std::get<std::int64_t>(settings[0].value.content), 3);
  EXPECT_EQ(settings[1].origin, "run.toml:3:11");
  EXPECT_EQ(settings[2].section, "data");
  EXPECT_EQ(settings[2].origin, "run.toml:6:9");
  EXPECT_EQ(std::get<std::string>(settings[2].value.content), "a");
}

TEST(ReadTomlText, KnowsEveryKindOfValue) {
  const auto settings =
      read_toml_text("[train]\ntf32 = true\nnum_train_epochs = 1_0.5\n[optimizer]\nbetas = [0.5, 1]\n", "run.toml");

  ASSERT_EQ(settings.size(), 3U);
  EXPECT_TRUE(std::get<bool>(settings[0].value.content));
  EXPECT_EQ(std::get<double>(settings[1].value.content), 10.5);
  EXPECT_EQ(toml_text(settings[2].value), "[0.5, 1]");
}

TEST(ReadTomlText, DottedAndInlineKeysAreKeysOfTheirSection) {
  const auto settings = read_toml_text("train.seed = 1\nschedule = { warmup_steps = 2 }\n", "run.toml");

  ASSERT_EQ(settings.size(), 2U);
  EXPECT_EQ(settings[0].section, "train");
  EXPECT_EQ(settings[0].origin, "run.toml:1:14");
  EXPECT_EQ(settings[1].section, "schedule");
  EXPECT_EQ(settings[1].origin, "run.toml:2:29");
}

TEST(ReadTomlText, AnEmptyText_HasNoSettings) { EXPECT_TRUE(read_toml_text("", "run.toml").empty()); }

TEST(ReadTomlText, UnknownKeys_AreAllNamedWithTheirPlaces) {
  EXPECT_EQ(error_in("[train]\nseed = 1\n  sed = 2\n\n[zero]\nstag = 3\n"),
            "run.toml:3:3: unknown key train.sed; the nearest is train.seed\n"
            "run.toml:6:1: unknown key zero.stag; the nearest is zero.stage");
}

TEST(ReadTomlText, ATableInASection_IsAnUnknownKey) {
  EXPECT_EQ(error_in("[train.optimizer]\nname = \"adamw\"\n").substr(0, 46),
            "run.toml:1:1: unknown key train.optimizer; the");
}

TEST(ReadTomlText, AnUnknownSection_IsNamedWithItsPlace) {
  EXPECT_EQ(error_in("\n[trian]\nseed = 1\n"), "run.toml:2:1: unknown section [trian]; the nearest is [train]");
}

TEST(ReadTomlText, AKeyOutsideSections_IsNamedWithItsPlace) {
  EXPECT_EQ(error_in("seed = 1\n"), "run.toml:1:1: seed is outside all sections; the nearest key is train.seed");
  EXPECT_EQ(error_in("[[train]]\nseed = 1\n").substr(9),
            "1:1: train is a section: expected [train] and its keys below");
}

TEST(ReadTomlText, BrokenToml_IsShownWithFileAndLine) {
  EXPECT_THAT(error_in("[train]\nseed = \n"), AllOf(StartsWith("run.toml:2:"), HasSubstr("not valid TOML"),
                                                    HasSubstr("expected value"), HasSubstr(" 2 | seed")));
  EXPECT_THAT(error_in("[train\n"), AllOf(StartsWith("run.toml:1:1: not valid TOML")));
  EXPECT_THAT(error_in("[train]\nseed = 1\nseed = 2\n"), AllOf(StartsWith("run.toml:3:"), HasSubstr("already exists")));
  EXPECT_THAT(error_in("[train]\nseed = 1\n[train]\nmax_steps = 2\n"), StartsWith("run.toml:3:"));
  EXPECT_THAT(error_in("[data]\ntrain = \"\xff\"\n"), AllOf(StartsWith("run.toml:2:"), HasSubstr("utf8")));
}

TEST(ReadTomlText, ANumberTooLargeForItsType_IsRefused) {
  EXPECT_EQ(error_in("[train]\nseed = 99_999_999_999_999_999_999\n"),
            "run.toml:2:8: 99999999999999999999 does not fit a 64-bit number");
  EXPECT_EQ(error_in("[optimizer]\neps = 1e999\n"), "run.toml:2:7: 1e999 does not fit a 64-bit number");
}

TEST(ReadTomlFile, AFileThatIsNotThereOrNotAFile_SaysWhy) {
  EXPECT_EQ(config_error_of([] { (void)read_toml_file("no/such.toml"); }),
            "no/such.toml: cannot be read: No such file or directory");
  EXPECT_EQ(config_error_of([] { (void)read_toml_file("/"); }), "/: cannot be read: Is a directory");
}

TEST(ReadTomlFile, AnEmptyFile_HasNoSettings) { EXPECT_TRUE(read_toml_file("/dev/null").empty()); }

TEST(ReadTomlValue, TakesTomlAndBareWords) {
  EXPECT_EQ(toml_text(read_toml_value("3")), "3");
  EXPECT_EQ(toml_text(read_toml_value("5e-5")), "5e-05");
  EXPECT_EQ(toml_text(read_toml_value("true")), "true");
  EXPECT_EQ(toml_text(read_toml_value("[0.9, 1]")), "[0.9, 1]");
  EXPECT_EQ(toml_text(read_toml_value("\"a b\"")), "\"a b\"");
  EXPECT_EQ(toml_text(read_toml_value("never")), "\"never\"");
  EXPECT_EQ(toml_text(read_toml_value("/data/a b.jsonl")), "\"/data/a b.jsonl\"");
  EXPECT_EQ(toml_text(read_toml_value("24GiB")), "\"24GiB\"");
  EXPECT_EQ(toml_text(read_toml_value("")), "\"\"");
  EXPECT_EQ(toml_text(read_toml_value("1\nother = 2")), "\"1\\nother = 2\"");
}

}  // namespace
}  // namespace spillway::app
