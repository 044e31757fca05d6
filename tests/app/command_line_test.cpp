// SPDX-License-Identifier: Apache-2.0
#include "app/command_line.hpp"

#include <gmock/gmock.h>

#include "app/expect_config_error.hpp"
#include "app/run_config.hpp"

namespace spillway::app {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

template <class Arguments>
Arguments parsed(const std::vector<std::string>& arguments) {
  return std::get<Arguments>(parse_command_line(arguments));
}

std::string usage_error(const std::vector<std::string>& arguments) {
  return config_error_of([&] { (void)parse_command_line(arguments); });
}

std::string text_of(const std::vector<Setting>& settings) {
  std::string text;
  for (const Setting& one : settings) {
    text += one.origin + " " + one.section + "." + one.key + "=" + toml_text(one.value) + "\n";
  }
  return text;
}

TEST(CommandLine, Train_TakesEveryFlag) {
  const auto train = parsed<TrainArguments>({"train", "--resume", "none", "--set", "train.seed=1", "run.toml", "--set",
                                             "optimizer.betas=[0.5, 0.6]", "--dry-run", "--print-config"});

  EXPECT_EQ(train.config, "run.toml");
  EXPECT_EQ(text_of(train.settings),
            "--set train.seed=1\n--set optimizer.betas=[0.5, 0.6]\n--resume checkpoint.resume=\"none\"\n");
  EXPECT_TRUE(train.dry_run);
  EXPECT_TRUE(train.print_config);
}

TEST(CommandLine, Train_WithoutFlags) {
  const auto train = parsed<TrainArguments>({"train", "run.toml"});

  EXPECT_EQ(train.config, "run.toml");
  EXPECT_TRUE(train.settings.empty());
  EXPECT_FALSE(train.dry_run);
  EXPECT_FALSE(train.print_config);
}

TEST(CommandLine, Set_TakesOneTextEach) {
  const auto train =
      parsed<TrainArguments>({"train", "--set", "train.seed=1", "--set=data.source_prefix=a b: ", "run.toml"});

  EXPECT_EQ(train.config, "run.toml");
  EXPECT_EQ(text_of(train.settings), "--set train.seed=1\n--set data.source_prefix=\"a b: \"\n");
}

TEST(CommandLine, Plan_TakesEveryFlag) {
  const auto plan = parsed<PlanArguments>(
      {"plan", "run.toml", "--profile", "rtx3090-24gb", "--ranks", "4", "--json", "--set", "train.seed=1"});
  const auto bare = parsed<PlanArguments>({"plan", "run.toml"});

  EXPECT_EQ(plan.config, "run.toml");
  EXPECT_EQ(plan.profile, "rtx3090-24gb");
  EXPECT_EQ(plan.ranks, 4);
  EXPECT_TRUE(plan.json);
  EXPECT_EQ(text_of(plan.settings), "--set train.seed=1\n");
  EXPECT_EQ(bare.profile, "");
  EXPECT_EQ(bare.ranks, 0);
  EXPECT_FALSE(bare.json);
  EXPECT_THAT(usage_error({"plan", "run.toml", "--ranks", "0"}), HasSubstr("--ranks"));
}

TEST(CommandLine, Doctor_TakesEveryFlag) {
  const auto doctor =
      parsed<DoctorArguments>({"doctor", "--nvme", "/a", "--save", "machine.json", "--nvme=/b", "--json"});
  const auto bare = parsed<DoctorArguments>({"doctor"});

  EXPECT_EQ(doctor.nvme, (std::vector<std::string>{"/a", "/b"}));
  EXPECT_EQ(doctor.save, "machine.json");
  EXPECT_TRUE(doctor.json);
  EXPECT_TRUE(bare.nvme.empty());
  EXPECT_EQ(bare.save, "");
  EXPECT_FALSE(bare.json);
}

TEST(CommandLine, Evaluate_TakesEveryFlag) {
  const auto model = parsed<EvaluateArguments>({"evaluate", "run.toml", "--model", "m", "--split", "test"});
  const auto checkpoint =
      parsed<EvaluateArguments>({"evaluate", "run.toml", "--checkpoint", "c", "--set", "eval.num_beams=1"});

  EXPECT_EQ(model.model, "m");
  EXPECT_EQ(model.split, Split::test);
  EXPECT_EQ(checkpoint.checkpoint, "c");
  EXPECT_EQ(checkpoint.split, Split::val);
  EXPECT_EQ(text_of(checkpoint.settings), "--set eval.num_beams=1\n");
}

TEST(CommandLine, Generate_TakesTheKeysOfEvalAsFlags) {
  const auto generate = parsed<GenerateArguments>({"generate",    "--model",
                                                   "m",           "--tokenizer",
                                                   "t",           "--input",
                                                   "in",          "--output",
                                                   "out",         "--ids",
                                                   "--scores",    "--source-prefix",
                                                   "translate: ", "--device",
                                                   "cpu",         "--precision",
                                                   "fp32",        "--num-beams",
                                                   "2",           "--max-length",
                                                   "20",          "--length-penalty",
                                                   "-0.5",        "--early-stopping",
                                                   "never",       "--per-device-eval-batch-size",
                                                   "3",           "--max-source-length",
                                                   "64"});

  const train::RunOptions options = run_options_of(generate.settings);

  EXPECT_EQ(generate.input, "in");
  EXPECT_EQ(generate.output, "out");
  EXPECT_TRUE(generate.ids);
  EXPECT_TRUE(generate.scores);
  EXPECT_EQ(options.model.path, "m");
  EXPECT_EQ(options.model.tokenizer, "t");
  EXPECT_EQ(options.data.source_prefix, "translate: ");
  EXPECT_EQ(options.data.max_source_length, 64);
  EXPECT_EQ(options.train.device, train::DeviceChoice::cpu);
  EXPECT_EQ(options.train.precision, train::Precision::fp32);
  EXPECT_EQ(options.eval.num_beams, 2);
  EXPECT_EQ(options.eval.max_length, 20);
  EXPECT_EQ(options.eval.length_penalty, -0.5);
  EXPECT_EQ(options.eval.early_stopping, train::EarlyStopping::never);
  EXPECT_EQ(options.eval.per_device_eval_batch_size, 3);
}

TEST(CommandLine, Generate_ReadsAndWritesTheStandardStreamsByDefault) {
  const auto generate = parsed<GenerateArguments>({"generate", "--model", "m", "--input", "-"});

  EXPECT_EQ(generate.input, "-");
  EXPECT_EQ(generate.output, "-");
  EXPECT_FALSE(generate.ids);
  EXPECT_EQ(run_options_of(generate.settings).eval, train::EvalOptions{});
}

TEST(CommandLine, Generate_TakesEveryKeyOfGeneration) {
  const auto generate = parsed<GenerateArguments>({"generate", "--model", "m", "--task", "summarization",
                                                   "--min-length", "5", "--no_repeat_ngram_size", "3",
                                                   "--repetition-penalty", "1.5", "--num-return-sequences", "2"});
  const train::EvalOptions eval = run_options_of(generate.settings).eval;

  EXPECT_EQ(eval.task, "summarization");
  EXPECT_EQ(eval.min_length, 5);
  EXPECT_EQ(eval.no_repeat_ngram_size, 3);
  EXPECT_EQ(eval.repetition_penalty, 1.5);
  EXPECT_EQ(eval.num_return_sequences, 2);
}

TEST(CommandLine, Generate_AFlagIsReadAsItsKeyIs) {
  const auto generate = parsed<GenerateArguments>({"generate", "--model", "m", "--precision", "fp16"});
  const auto unknown = parsed<GenerateArguments>({"generate", "--model", "m", "--precision", "fp8"});

  EXPECT_EQ(run_options_of(generate.settings).train.precision, train::Precision::fp16);
  EXPECT_THAT(config_error_of([&] { (void)run_options_of(unknown.settings); }),
              ::testing::HasSubstr("expected one of"));
}

TEST(CommandLine, Flags_MayBeSpelledWithUnderscores) {
  const auto generate =
      parsed<GenerateArguments>({"generate", "--model", "m_1", "--num_beams", "2", "--source_prefix=a_b"});

  EXPECT_EQ(text_of(generate.settings),
            "--model model.path=\"m_1\"\n--source-prefix data.source_prefix=\"a_b\"\n--num-beams eval.num_beams=2\n");
}

TEST(CommandLine, Generate_TakesAnEmptyPrefix) {
  const auto generate = parsed<GenerateArguments>({"generate", "--model", "m", "--source-prefix", ""});

  EXPECT_EQ(text_of(generate.settings), "--model model.path=\"m\"\n--source-prefix data.source_prefix=\"\"\n");
}

TEST(CommandLine, Checkpoint_HasFourActions) {
  const auto list = parsed<CheckpointArguments>({"checkpoint", "list", "dir"});
  const auto show = parsed<CheckpointArguments>({"checkpoint", "show", "step"});
  const auto verify = parsed<CheckpointArguments>({"checkpoint", "verify", "step"});
  const auto exported = parsed<CheckpointArguments>({"checkpoint", "export", "step", "--output", "hf"});

  EXPECT_EQ(list.action, CheckpointAction::list);
  EXPECT_EQ(list.path, "dir");
  EXPECT_EQ(show.action, CheckpointAction::show);
  EXPECT_EQ(verify.action, CheckpointAction::verify);
  EXPECT_EQ(exported.action, CheckpointAction::export_model);
  EXPECT_EQ(exported.path, "step");
  EXPECT_EQ(exported.output, "hf");
}

TEST(CommandLine, Init_TakesModelAndOutput) {
  const auto init = parsed<InitArguments>({"init", "--model", "t5-small", "--output", "run.toml"});

  EXPECT_EQ(init.model, "t5-small");
  EXPECT_EQ(init.output, "run.toml");
  EXPECT_EQ(parsed<InitArguments>({"init"}).output, "-");
}

TEST(CommandLine, HelpAndVersion_AreText) {
  EXPECT_EQ(parsed<PrintText>({"--version"}).text, "spillway 0.1.0\n");
  EXPECT_THAT(parsed<PrintText>({"--help"}).text,
              AllOf(HasSubstr("train"), HasSubstr("evaluate"), HasSubstr("generate"), HasSubstr("checkpoint"),
                    HasSubstr("init")));
  EXPECT_THAT(parsed<PrintText>({"train", "--help"}).text, AllOf(HasSubstr("CONFIG.toml"), HasSubstr("--resume")));
  EXPECT_THAT(parsed<PrintText>({"checkpoint", "export", "--help"}).text, HasSubstr("--output"));
  EXPECT_THAT(parsed<PrintText>({"generate", "--help"}).text,
              AllOf(HasSubstr("--num-beams"), HasSubstr("--min-length"), Not(HasSubstr("--metric"))));
}

TEST(CommandLine, BadUsage_SaysWhatAndWhereToLook) {
  EXPECT_THAT(usage_error({}), AllOf(HasSubstr("subcommand is required"), EndsWith("\nsee spillway --help")));
  EXPECT_THAT(usage_error({"train"}),
              AllOf(HasSubstr("CONFIG.toml is required"), EndsWith("\nsee spillway train --help")));
  EXPECT_THAT(usage_error({"train", "run.toml", "--sett", "x"}),
              AllOf(HasSubstr("--sett"), EndsWith("\nsee spillway train --help")));
  EXPECT_THAT(usage_error({"train", "a.toml", "b.toml"}), HasSubstr("b.toml"));
  EXPECT_THAT(usage_error({"tune", "run.toml"}), HasSubstr("not understood: tune run.toml\n"));
  EXPECT_THAT(usage_error({"evaluate", "run.toml", "--model", "m", "--checkpoint", "c"}), HasSubstr("--model"));
  EXPECT_THAT(usage_error({"evaluate", "run.toml", "--split", "train"}), HasSubstr("--split"));
  EXPECT_THAT(usage_error({"generate"}), HasSubstr("--model is required"));
  EXPECT_THAT(usage_error({"checkpoint"}), EndsWith("\nsee spillway checkpoint --help"));
  EXPECT_THAT(usage_error({"checkpoint", "export", "step"}),
              AllOf(HasSubstr("--output is required"), EndsWith("\nsee spillway checkpoint export --help")));
  EXPECT_EQ(usage_error({"train", "run.toml", "--set", "train.sed=1"}),
            "--set: unknown key train.sed; the nearest is train.seed");
}

}  // namespace
}  // namespace spillway::app
