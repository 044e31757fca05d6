// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "train/event_file.hpp"
#include "train/metrics.hpp"
#include "train/run_state.hpp"

namespace spillway::train {

/// The files that a run keeps in train.output_dir besides checkpoints and the model. Only rank 0 has one. Every call may throw IoError.
class RunOutputs {
 public:
  /// Writes config.toml and plan.json, takes back the wish to be started again, and opens what is appended to.
  RunOutputs(const Job& job, const ConfigRecord& config);

  void write(const StepMetrics& metrics);
  /// Predictions too, if there are some.
  void write(std::int64_t step, double epoch, const Evaluation& evaluation);
  /// \param evaluation  the last one; null: there was none
  void finish(const RunTotals& totals, const Evaluation* evaluation);
  /// Leaves the wish to be started again.
  void ask_for_requeue(const std::string& reason);

  /// A file of the folder.
  [[nodiscard]] std::string path(const std::string& name) const { return folder_ + "/" + name; }

 private:
  std::string folder_;
  std::optional<MetricsFile> metrics_;
  std::optional<EventFile> events_;
};

}  // namespace spillway::train
