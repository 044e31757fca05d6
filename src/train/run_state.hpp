// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "data/sampler.hpp"
#include "train/contents.hpp"
#include "train/loss_scaler.hpp"

namespace spillway::train {

/// The configuration as the application resolved it, for the run's record.
struct ConfigRecord {
  std::string toml;                           // config.toml: running it again repeats the run
  std::map<std::string, std::string> values;  // "section.key" to its value as TOML
};

/// What enters the numbers of a run besides its configuration: printed at start and kept in checkpoints.
using NumericSignature = std::map<std::string, std::string>;
[[nodiscard]] NumericSignature numeric_signature(const Job& job);

/// Where a run stands: all that a checkpoint needs besides tensors.
struct RunState {
  std::int64_t step = 0;            // global steps done: keys the dropout streams
  std::int64_t optimizer_step = 0;  // updates done: Adam's t and the schedule's place
  data::Cursor cursor;
  std::int64_t total_steps = 0;
  std::int64_t global_batch_size = 0;
  std::optional<double> best_metric;            // finite
  std::string best_metric_name;                 // of what: "bleu" or "loss"
  std::int64_t best_step = -1;                  // whose checkpoint retention keeps; -1: none
  double train_seconds = 0.0;                   // of all runs so far
  double loss_sum = 0.0;                        // Σ of the steps' mean losses, for train_loss
  std::optional<LossScaler::State> loss_scale;  // fp16
  bool stopped = false;                         // saved by a stop on request: the same command again goes on from here
  ConfigRecord config;
  NumericSignature signature;
  ContentRecord contents;
  std::string model_json;          // config.json of the export
  std::string generation_json;     // of the model read; may be empty
  DType model_dtype = DType::f32;  // of the export
  std::string tokenizer;           // path, or "bytes"
};

/// To and from the metadata text of a checkpoint. \throws DataError if the text is not ours, naming `origin`
[[nodiscard]] std::string to_json(const RunState& state);
[[nodiscard]] RunState run_state_from_json(const std::string& text, const std::string& origin);

/// Takes a metric as the best if it is finite and better than the best so far, or that was another metric. \return whether it is
bool take_if_best(RunState& state, const std::string& name, double value, bool greater_is_better);

/// Keys whose change on resume is refused, with both values, unless checkpoint.allow_changes; and a line for each part of the
/// numeric signature that differs, for the log. \throws ConfigError
void check_changes(const RunState& saved, const ConfigRecord& now, bool allow);
/// The same for contents that differ.
void check_contents(const RunState& saved, const ContentRecord& now, bool allow);
[[nodiscard]] std::string signature_changes(const NumericSignature& saved, const NumericSignature& now);

}  // namespace spillway::train
