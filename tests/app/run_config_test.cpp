// SPDX-License-Identifier: Apache-2.0
#include "app/run_config.hpp"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>

#include <gmock/gmock.h>

#include "app/config_schema.hpp"
#include "app/expect_config_error.hpp"
#include "app/overrides.hpp"
#include "app/toml_reader.hpp"

namespace spillway::app {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using train::RunOptions;

RunOptions options_in(const std::string& text) { return run_options_of(read_toml_text(text, "run.toml")); }
std::string error_in(const std::string& text) {
  return config_error_of([&] { (void)options_in(text); });
}

TEST(RunOptionsOf, NoSettings_AreTheDefaults) { EXPECT_EQ(run_options_of({}), RunOptions{}); }

TEST(RunOptionsOf, ReadsEveryTypeOfKey) {
  const RunOptions options = options_in(R"(
[model]
init = "random"
dropout_rate = 0
[data]
train = "pairs"
shuffle = false
[train]
per_device_train_batch_size = 3
num_train_epochs = 1.5
time_limit = "3h50m"
gradient_checkpointing = "on"
[optimizer]
betas = [0.8, 0.95]
[zero]
stage = 0
[memory]
host = "24GiB"
device = "auto"
[offload]
exp_avg = "nvme"
nvme_dirs = ["/a", "/b"]
extent_size = "1MiB"
[checkpoint]
export = false
async = false
[eval]
num_beams = 2
length_penalty = -1
early_stopping = "never"
)");

  RunOptions expected;
  expected.model.init = train::ModelInit::random;
  expected.model.dropout_rate = 0;
  expected.data.train = {"pairs"};
  expected.data.shuffle = false;
  expected.train.per_device_train_batch_size = 3;
  expected.train.num_train_epochs = 1.5;
  expected.train.time_limit = std::chrono::seconds(13800);
  expected.train.gradient_checkpointing = train::GradientCheckpointing::on;
  expected.optimizer.betas = {0.8, 0.95};
  expected.zero.stage = 0;
  expected.memory.host = std::uint64_t{24} << 30;
  expected.offload.exp_avg = train::TierChoice::nvme;
  expected.offload.nvme_dirs = {"/a", "/b"};
  expected.offload.extent_size = 1 << 20;
  expected.checkpoint.export_model = false;
  expected.checkpoint.async = false;
  expected.eval.num_beams = 2;
  expected.eval.length_penalty = -1;
  expected.eval.early_stopping = train::EarlyStopping::never;
  EXPECT_EQ(options, expected);
}

TEST(RunOptionsOf, AValueOfTheWrongType_SaysWhatWasExpectedAndFound) {
  EXPECT_EQ(error_in("[train]\nseed = \"one\"\n"),
            "run.toml:2:8: train.seed = \"one\": expected an integer of at least 0, found the string \"one\"");
  EXPECT_EQ(error_in("[train]\nmax_steps = 1.0\n"),
            "run.toml:2:13: train.max_steps = 1.0: expected an integer of at least 0, found the number 1.0");
  EXPECT_EQ(error_in("[data]\nshuffle = 1\n"),
            "run.toml:2:11: data.shuffle = 1: expected true or false, found the integer 1");
  EXPECT_EQ(error_in("[data]\nsource_prefix = 1\n"),
            "run.toml:2:17: data.source_prefix = 1: expected a string, found the integer 1");
  EXPECT_THAT(error_in("[optimizer]\nbetas = [0.9]\n"),
              HasSubstr("expected a list of two numbers of at least 0 and below 1"));
  EXPECT_THAT(error_in("[offload]\nnvme_dirs = [1]\n"),
              HasSubstr("expected a list of directories, found the list [1]"));
  EXPECT_THAT(error_in("[train]\nseed = 1979-05-27\n"), HasSubstr("found a date or time"));
  EXPECT_THAT(error_in("[train]\nseed = {a = 1}\n"), HasSubstr("found a table"));
}

TEST(RunOptionsOf, AValueOutOfRange_SaysTheRange) {
  EXPECT_EQ(error_in("[train]\nseed = -1\n"),
            "run.toml:2:8: train.seed = -1: expected an integer of at least 0, found the integer -1");
  EXPECT_THAT(error_in("[train]\nnum_train_epochs = 0\n"), HasSubstr("expected a number above 0, found the integer 0"));
  EXPECT_THAT(error_in("[schedule]\nwarmup_ratio = 1.1\n"), HasSubstr("expected a number of at least 0 and at most 1"));
  EXPECT_THAT(error_in("[model]\ndropout_rate = 1.0\n"), HasSubstr("expected a number below 1"));
  EXPECT_THAT(error_in("[optimizer]\nlearning_rate = nan\n"), HasSubstr("found the number nan"));
  EXPECT_THAT(error_in("[optimizer]\nlearning_rate = inf\n"), HasSubstr("found the number inf"));
  EXPECT_THAT(error_in("[offload]\nqueue_depth = 5000\n"), HasSubstr("an integer of at least 1 and at most 4096"));
  EXPECT_THAT(error_in("[zero]\nstage = 4\n"),
              HasSubstr("expected an integer of at least 0 and at most 3, found the integer 4"));
  EXPECT_THAT(error_in("[offload]\nexp_avg = \"disk\"\n"),
              HasSubstr("expected one of \"auto\", \"device\", \"host\", \"nvme\", found the string \"disk\""));
  EXPECT_THAT(error_in("[offload]\nextent_size = \"5000B\"\n"), HasSubstr("a size that is a multiple of 4KiB"));
  EXPECT_THAT(error_in("[memory]\nhost = \"lots\"\n"), HasSubstr("\"auto\" or a size such as \"24GiB\""));
  EXPECT_THAT(error_in("[train]\ntime_limit = \"4\"\n"), HasSubstr("expected a duration such as \"3h50m\""));
  EXPECT_THAT(error_in("[train]\noutput_dir = \"\"\n"), HasSubstr("expected a string that is not empty"));
}

TEST(RunOptionsOf, ALaterSettingReplacesAnEarlierOne) {
  auto settings = read_toml_text("[train]\ncollective_timeout = \"6m\"\nseed = 1\n", "run.toml");
  for (auto& setting :
       settings_from_arguments({"train.collective_timeout=300s", "train.seed=2", "train.seed=3"}, "--set")) {
    settings.push_back(setting);
  }

  const RunOptions options = run_options_of(settings);

  EXPECT_EQ(options.train.collective_timeout, std::chrono::seconds(300));
  EXPECT_EQ(options.train.seed, 3U);
}

class ReadRunOptions : public ::testing::Test {
 protected:
  ReadRunOptions() { std::ofstream(path_) << "[train]\nseed = 1\nmax_steps = 1\nlogging_steps = 1\n"; }
  ~ReadRunOptions() override { std::filesystem::remove(path_); }
  const std::string path_ =
      ::testing::TempDir() + "run_config_test." + std::to_string(std::random_device{}()) + ".toml";
};

TEST_F(ReadRunOptions, TakesFileThenEnvironmentThenArguments) {
  const RunOptions options = read_run_options({.file = path_,
                                               .environment = {"SPILLWAY_TRAIN_SEED=2", "SPILLWAY_TRAIN_MAX_STEPS=2"},
                                               .arguments = settings_from_arguments({"train.seed=3"}, "--set")});

  EXPECT_EQ(options.train.seed, 3U);
  EXPECT_EQ(options.train.max_steps, 2);
  EXPECT_EQ(options.train.logging_steps, 1);
  EXPECT_EQ(options.train.gradient_accumulation_steps, 1);
}

TEST_F(ReadRunOptions, ErrorsNameTheVariableOrTheArgument) {
  EXPECT_EQ(config_error_of([&] {
              (void)read_run_options({.file = path_, .environment = {"SPILLWAY_TRAIN_SEED=x"}, .arguments = {}});
            }),
            "SPILLWAY_TRAIN_SEED: train.seed = \"x\": expected an integer of at least 0, found the string \"x\"");
  EXPECT_EQ(
      config_error_of([&] {
        (void)read_run_options({.file = "",
                                .environment = {},
                                .arguments = settings_from_arguments({"train.collective_timeout=0s"}, "--set")});
      }),
      "--set: train.collective_timeout = \"0s\": expected a duration of at least 1s, such as \"3h50m\", found the "
      "string \"0s\"");
}

TEST(ConfigText, OfTheDefaults_IsReadBackAsTheDefaults) {
  const std::string text = config_text(RunOptions{});

  EXPECT_EQ(options_in(text), RunOptions{}) << text;
  EXPECT_THAT(text, HasSubstr("# num_beams = 4  # unless the model's generation_config says otherwise\n"));
  EXPECT_THAT(text, Not(HasSubstr("html")));  // what is not there
}

TEST(ConfigText, IsReadBackEqualToTheLastBit) {
  RunOptions options;
  options.model.path = "a \"b\"\\c\nș";
  options.optimizer.learning_rate = 1.0 / 3.0;
  options.optimizer.eps = 1e-30;
  options.optimizer.betas = {0.1 + 0.2, 1e-300};
  options.train.num_train_epochs = 100;
  options.train.seed = INT64_MAX;
  options.train.time_limit = std::chrono::seconds(86401);
  options.zero.stage = 0;
  options.memory.device = 1000001;
  options.memory.nvme = 0;
  options.offload.placement = train::TierChoice::host;
  options.offload.nvme_dirs = {"/x y", "z"};
  options.offload.store = train::StoreChoice::posix;
  options.checkpoint.resume = "out/checkpoints/step-000000001";
  options.checkpoint.async = false;
  options.eval.num_beams = 1;
  options.eval.max_length = 20;
  options.eval.length_penalty = 0.6;
  options.eval.early_stopping = train::EarlyStopping::no;

  const std::string text = config_text(options);

  EXPECT_EQ(options_in(text), options) << text;
  EXPECT_EQ(config_text(options_in(text)), text);
}

TEST(CommentedConfigText, OfTheDefaults_IsReadBackAsTheDefaults) {
  EXPECT_EQ(options_in(commented_config_text(RunOptions{})), RunOptions{});
}

TEST(CommentedConfigText, ExplainsEveryKeyThatExistsAndNoOther) {
  const std::string text = commented_config_text(RunOptions{});

  for (const ConfigKey& key : config_keys()) {
    const bool shown =
        text.find(" # " + key.doc + "\n") != std::string::npos &&
        text.find("\n" + std::string(key.fallback.empty() ? "" : "# ") + key.key + " = ") != std::string::npos;
    EXPECT_EQ(shown, key.available) << key.section << "." << key.key;
  }
}

}  // namespace
}  // namespace spillway::app
