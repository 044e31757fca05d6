// SPDX-License-Identifier: Apache-2.0
#include "app/init_command.hpp"

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include <gmock/gmock.h>

#include "app/expect_config_error.hpp"
#include "app/run_config.hpp"
#include "app/toml_reader.hpp"

namespace spillway::app {
namespace {

using ::testing::EndsWith;

train::RunOptions options_in(const std::string& text) { return run_options_of(read_toml_text(text, "run.toml")); }

TEST(InitialConfig, WithoutAModel_IsTheDefaults) {
  EXPECT_EQ(options_in(initial_config_text("")), train::RunOptions{});
}

TEST(InitialConfig, WithADirectory_TrainsItsWeights) {
  const auto options = options_in(initial_config_text(::testing::TempDir()));

  EXPECT_EQ(options.model.path, ::testing::TempDir());
  EXPECT_EQ(options.model.init, train::ModelInit::pretrained);
}

TEST(InitialConfig, WithAPreset_StartsFromRandomWeights) {
  const auto options = options_in(initial_config_text("t5-small"));

  EXPECT_EQ(options.model.path, "t5-small");
  EXPECT_EQ(options.model.init, train::ModelInit::random);
}

TEST(InitialConfig, WithAMisspeltPreset_IsRefusedWithTheNearest) {
  EXPECT_THAT(config_error_of([] { (void)initial_config_text("t5-smal"); }),
              EndsWith("the nearest preset is \"t5-small\""));
}

TEST(InitialConfig, WithAPathThatIsNotThere_IsRefused) {
  EXPECT_EQ(config_error_of([] { (void)initial_config_text("./no-such-model"); }),
            "--model ./no-such-model: there is no such directory");
}

TEST(WriteInitialConfig, WritesAFileAndNeverReplacesOne) {
  const std::string path = ::testing::TempDir() + "init_test." + std::to_string(std::random_device{}()) + ".toml";

  write_initial_config({.model = "", .output = path});
  std::ostringstream written;
  written << std::ifstream(path).rdbuf();

  EXPECT_EQ(written.str(), initial_config_text(""));
  EXPECT_THAT(config_error_of([&] { write_initial_config({.model = "", .output = path}); }),
              EndsWith("is not replaced"));
  std::filesystem::remove(path);
}

TEST(WriteInitialConfig, WhereNothingCanBeWritten_SaysWhy) {
  EXPECT_THROW(write_initial_config({.model = "", .output = "/dev/null/run.toml"}), IoError);
}

}  // namespace
}  // namespace spillway::app
