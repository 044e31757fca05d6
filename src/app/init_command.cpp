// SPDX-License-Identifier: Apache-2.0
#include "app/init_command.hpp"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iostream>

#include <fmt/format.h>

#include "app/commands.hpp"
#include "app/run_config.hpp"
#include "checkpoint/files.hpp"
#include "model/t5_presets.hpp"
#include "train/agreement.hpp"

namespace spillway::app {

using train::agree;

std::string initial_config_text(const std::string& model) {
  train::RunOptions options;
  options.model.path = model;
  if (!model.empty() && checkpoint::type_of_input(model) != std::filesystem::file_type::directory) {
    if (model.find('/') != std::string::npos)
      throw ConfigError(fmt::format("--model {}: there is no such directory", model));
    (void)model::t5_preset(model);  // refuses a name that is none
    options.model.init = train::ModelInit::random;
  }
  return commented_config_text(options);
}

void write_initial_config(const InitArguments& arguments) {
  const std::string text = initial_config_text(arguments.model);
  if (arguments.output == "-") {
    std::cout << text << std::flush;
    return;
  }
  std::error_code none;
  if (std::filesystem::exists(arguments.output, none) && std::filesystem::file_size(arguments.output, none) != 0) {
    throw ConfigError(fmt::format("--output {}: this file is there already and is not replaced", arguments.output));
  }
  errno = 0;
  std::ofstream file(arguments.output);
  if (!(file << text << std::flush)) throw IoError(fmt::format("{}: cannot be written", arguments.output), errno);
}

ExitCode init_command(const InitArguments& arguments, Runtime& runtime) {
  agree(runtime.communicator, [&] {
    if (runtime.communicator.rank() == 0) write_initial_config(arguments);
  });
  return ExitCode::done;
}

}  // namespace spillway::app
