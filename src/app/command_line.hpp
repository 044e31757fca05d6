// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "app/config_value.hpp"

namespace spillway::app {

/// spillway train
struct TrainArguments {
  /// The configuration file.
  std::string config;
  /// --set, then --resume.
  std::vector<Setting> settings;
  /// Only the ledger.
  bool dry_run = false;
  /// Only the resolved configuration.
  bool print_config = false;
};

/// spillway plan
struct PlanArguments {
  std::string config;
  std::vector<Setting> settings;
  /// A named profile or a file; "": the saved one, or this machine as it is.
  std::string profile;
  /// 0: as many as there are processes.
  int ranks = 0;
  /// One JSON object instead of text.
  bool json = false;
};

/// spillway doctor
struct DoctorArguments {
  /// Directories to measure, as offload.nvme_dirs.
  std::vector<std::string> nvme;
  /// Where the profile goes; "": where `plan` and `train` look for it.
  std::string save;
  /// One JSON object instead of text.
  bool json = false;
};

enum class Split { val, test };

/// spillway evaluate
struct EvaluateArguments {
  std::string config;
  std::vector<Setting> settings;
  /// A Hugging Face directory instead of the configuration's; "": none. At most one of the two is given.
  std::string model;
  /// A checkpoint's directory.
  std::string checkpoint;
  Split split = Split::val;
};

/// spillway generate
struct GenerateArguments {
  /// --model, --tokenizer, --source-prefix, --max-source-length, --device, --precision and the flags of [eval], as the
  /// keys that they stand for. model.path is always there.
  std::vector<Setting> settings;
  /// A file, or "-": standard input, output.
  std::string input = "-";
  std::string output = "-";
  /// Token ids instead of text.
  bool ids = false;
  /// The sequence's score and a tab in front.
  bool scores = false;
};

enum class CheckpointAction { list, show, verify, export_model };

/// spillway checkpoint
struct CheckpointArguments {
  CheckpointAction action = CheckpointAction::list;
  /// The directory of the checkpoints (list) or of one of them.
  std::string path;
  /// The Hugging Face directory to write (export).
  std::string output;
};

/// spillway init
struct InitArguments {
  /// A preset or a Hugging Face directory; "": none.
  std::string model;
  /// A file, or "-": standard output.
  std::string output = "-";
};

/// --help, --version: nothing but this goes to standard output.
struct PrintText {
  std::string text;
};

using Command = std::variant<TrainArguments, PlanArguments, DoctorArguments, EvaluateArguments, GenerateArguments,
                             CheckpointArguments, InitArguments, PrintText>;

/// What the command line asks for. Flags may be spelled with underscores: --num_beams.
/// \param arguments  without the program's name
/// \throws ConfigError for bad usage, with where to look
[[nodiscard]] Command parse_command_line(const std::vector<std::string>& arguments);

}  // namespace spillway::app
