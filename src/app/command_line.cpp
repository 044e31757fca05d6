// SPDX-License-Identifier: Apache-2.0
#include "app/command_line.hpp"

#include <algorithm>
#include <iterator>
#include <sstream>

#include <CLI/CLI.hpp>

#include "app/config_lookup.hpp"
#include "app/overrides.hpp"
#include "core/error.hpp"

namespace spillway::app {
namespace {

/// "--num_beams=4" to "--num-beams=4".
std::string with_dashes(std::string argument) {
  if (!argument.starts_with("--")) return argument;
  const auto end = argument.begin() + static_cast<std::ptrdiff_t>(std::min(argument.find('='), argument.size()));
  std::replace(argument.begin(), end, '_', '-');
  return argument;
}

/// Adds a flag that stands for a configuration key.
CLI::Option* add_key(CLI::App* command, const std::string& flag, const std::string& section, const std::string& key,
                     std::vector<Setting>& settings) {
  const ConfigKey* found = find_key(section, key);
  const auto store = [&settings, flag, section, key](const std::string& text) {
    settings.push_back(setting_from_text(section, key, text, flag));
  };
  CLI::Option* option = command->add_option_function<std::string>(flag, store, found->doc);
  // What has no effect yet is taken, but not offered.
  if (!found->available) option->group("");
  return option;
}

void add_config_and_set(CLI::App* command, std::string& config, std::vector<std::string>& sets) {
  command->add_option("CONFIG.toml", config, "the configuration")->required();
  command->add_option("--set", sets, "section.key=value, over the file and the environment; may be given several times")
      ->allow_extra_args(false);
}

CLI::App* add_train(CLI::App& app, TrainArguments& arguments, std::vector<std::string>& sets) {
  CLI::App* command = app.add_subcommand("train", "fine-tune a model");
  add_config_and_set(command, arguments.config, sets);
  add_key(command, "--resume", "checkpoint", "resume", arguments.settings);
  command->add_flag("--dry-run", arguments.dry_run, "print the memory ledger and stop");
  command->add_flag("--print-config", arguments.print_config, "print the resolved configuration and stop");
  return command;
}

CLI::App* add_plan(CLI::App& app, PlanArguments& arguments, std::vector<std::string>& sets) {
  constexpr int kMostRanks = 65'536;
  CLI::App* command = app.add_subcommand("plan", "what a training job takes, where it goes and how fast it will be");
  add_config_and_set(command, arguments.config, sets);
  command->add_option(
      "--profile", arguments.profile,
      "a machine: a name such as rtx3090-24gb, or a file of `spillway doctor` (the default: the saved one, "
      "or this machine)");
  command->add_option("--ranks", arguments.ranks, "plan rank 0 of so many")->check(CLI::Range(1, kMostRanks));
  command->add_flag("--json", arguments.json, "one JSON object");
  return command;
}

CLI::App* add_doctor(CLI::App& app, DoctorArguments& arguments) {
  CLI::App* command =
      app.add_subcommand("doctor", "measure this machine for the planner and say what is wrong with it");
  command
      ->add_option("--nvme", arguments.nvme, "a directory to measure, one for each drive; may be given several times")
      ->allow_extra_args(false);
  command->add_option("--save", arguments.save,
                      "a file for the profile (the default: where plan and train look for it)");
  command->add_flag("--json", arguments.json, "one JSON object");
  return command;
}

CLI::App* add_evaluate(CLI::App& app, EvaluateArguments& arguments, std::vector<std::string>& sets) {
  CLI::App* command = app.add_subcommand("evaluate", "loss and metric of a model on held-out data");
  add_config_and_set(command, arguments.config, sets);
  CLI::Option* model = command->add_option("--model", arguments.model, "a Hugging Face directory");
  command->add_option("--checkpoint", arguments.checkpoint, "a checkpoint's directory")->excludes(model);
  const auto store = [&arguments](const std::string& name) {
    arguments.split = name == "test" ? Split::test : Split::val;
  };
  command->add_option_function<std::string>("--split", store, "data.val (the default) or data.test")
      ->check(CLI::IsMember({"val", "test"}));
  return command;
}

CLI::App* add_generate(CLI::App& app, GenerateArguments& arguments) {
  CLI::App* command = app.add_subcommand("generate", "one line of text for each line of text");
  auto& settings = arguments.settings;
  add_key(command, "--model", "model", "path", settings)->required();
  add_key(command, "--tokenizer", "model", "tokenizer", settings);
  command->add_option("--input", arguments.input, "a file, or - for standard input (the default)");
  command->add_option("--output", arguments.output, "a file, or - for standard output (the default)");
  command->add_flag("--ids", arguments.ids, "token ids instead of text");
  command->add_flag("--scores", arguments.scores, "the sequence's score and a tab in front");
  add_key(command, "--source-prefix", "data", "source_prefix", settings);
  add_key(command, "--max-source-length", "data", "max_source_length", settings);
  add_key(command, "--device", "train", "device", settings);
  add_key(command, "--precision", "train", "precision", settings);
  for (const ConfigKey& key : config_keys()) {
    const bool about_training = key.key == "eval_steps" || key.key == "predict_with_generate" || key.key == "metric";
    if (key.section == "eval" && !about_training)
      add_key(command, with_dashes("--" + key.key), "eval", key.key, settings);
  }
  return command;
}

CLI::App* add_checkpoint(CLI::App& app, CheckpointArguments& arguments) {
  CLI::App* command = app.add_subcommand("checkpoint", "look into checkpoints");
  command->require_subcommand(1);
  const auto add = [&](const char* name, const char* doc, const char* path, CheckpointAction action) {
    CLI::App* one = command->add_subcommand(name, doc);
    one->add_option(path, arguments.path, "a directory")->required();
    one->callback([&arguments, action] { arguments.action = action; });
    return one;
  };
  add("list", "the checkpoints in a directory", "DIR", CheckpointAction::list);
  add("show", "what a checkpoint holds", "STEP_DIR", CheckpointAction::show);
  add("verify", "read everything and compare the hashes", "STEP_DIR", CheckpointAction::verify);
  add("export", "write a Hugging Face directory", "STEP_DIR", CheckpointAction::export_model)
      ->add_option("--output", arguments.output, "the directory to write")
      ->required();
  return command;
}

CLI::App* add_init(CLI::App& app, InitArguments& arguments) {
  CLI::App* command = app.add_subcommand("init", "a commented configuration with every key, its default and unit");
  command->add_option("--model", arguments.model, "a preset such as t5-small, or a Hugging Face directory");
  command->add_option("--output", arguments.output, "a file, or - for standard output (the default)");
  return command;
}

std::string command_path(const CLI::App* app) {
  std::string path = app->get_name();
  for (const CLI::App* next : app->get_subcommands()) path += " " + command_path(next);
  return path;
}

}  // namespace

Command parse_command_line(const std::vector<std::string>& arguments) {
  CLI::App app("Fine-tunes T5-family models that do not fit in GPU memory", "spillway");
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("spillway ") + SPILLWAY_VERSION);
  TrainArguments train;
  PlanArguments plan;
  DoctorArguments doctor;
  EvaluateArguments evaluate;
  GenerateArguments generate;
  CheckpointArguments checkpoint;
  InitArguments init;
  std::vector<std::string> sets;
  const CLI::App* train_app = add_train(app, train, sets);
  const CLI::App* plan_app = add_plan(app, plan, sets);
  const CLI::App* doctor_app = add_doctor(app, doctor);
  const CLI::App* evaluate_app = add_evaluate(app, evaluate, sets);
  const CLI::App* generate_app = add_generate(app, generate);
  const CLI::App* checkpoint_app = add_checkpoint(app, checkpoint);
  add_init(app, init);

  std::vector<std::string> reversed;  // as CLI11 wants them
  std::transform(arguments.rbegin(), arguments.rend(), std::back_inserter(reversed), with_dashes);
  try {
    app.parse(std::move(reversed));
  } catch (const CLI::ParseError& error) {
    std::ostringstream out, unused;
    if (app.exit(error, out, unused) == 0) return PrintText{out.str()};
    std::string message = error.what();
    // CLI11 says what is missing before what is too much, which may be the misspelled name of it.
    const std::vector<std::string> rest = app.remaining(true);
    if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && !rest.empty()) {
      message += "; not understood: " + CLI::detail::join(rest, " ");
    }
    throw ConfigError(message + "\nsee " + command_path(&app) + " --help");
  }

  std::vector<Setting> settings = settings_from_arguments(sets, "--set");
  if (app.got_subcommand(train_app)) {
    train.settings.insert(train.settings.begin(), settings.begin(), settings.end());
    return train;
  }
  if (app.got_subcommand(plan_app)) {
    plan.settings = std::move(settings);
    return plan;
  }
  if (app.got_subcommand(doctor_app)) return doctor;
  if (app.got_subcommand(evaluate_app)) {
    evaluate.settings = std::move(settings);
    return evaluate;
  }
  if (app.got_subcommand(generate_app)) return generate;
  if (app.got_subcommand(checkpoint_app)) return checkpoint;
  return init;
}

}  // namespace spillway::app
