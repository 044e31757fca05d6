// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "offload/block_store.hpp"
#include "train/evaluation.hpp"
#include "train/resource_meter.hpp"
#include "train/step_clock.hpp"

namespace spillway::train {

/// One line of metrics: the mean or sum over the steps since the last line, as the names say.
struct StepMetrics {
  std::int64_t step = 0;
  std::int64_t steps = 0;  // that the line is about
  double epoch = 0.0;
  double loss = 0.0;       // mean over the target tokens of the steps whose loss is finite
  double grad_norm = 0.0;  // of the last step that was not skipped, before clipping
  double learning_rate = 0.0;
  std::optional<double> loss_scale;  // fp16: of the next step
  std::int64_t skipped = 0;          // steps whose gradient overflowed, of these
  double seconds_per_step = 0.0;
  double tokens_per_second = 0.0;  // source and target tokens of all ranks
  double samples_per_second = 0.0;
  /// The model's own operations of the steps, of what large products reach on the GPUs; none where that is not known.
  std::optional<double> model_flops_utilization;
  std::size_t device_bytes = 0, host_bytes = 0;  // of this rank, by the ledger
  std::size_t peak_host_bytes = 0;               // the most that any rank has had resident so far
  std::optional<std::size_t>
      taken_device_bytes;       // by the driver, now: with the context, libraries and other processes' new ones
  offload::StoreCounters nvme;  // of this rank, in these steps
  MeasuredResources resources;  // of this rank, of one of these steps
  StepClock clock;              // of this rank, in these steps
  double save_seconds = 0.0;    // that this rank waited for saves between the steps since the last line
};

/// A number that an evaluation found, by the end of its name in Hugging Face's results ("bleu" of "eval_bleu"), rounded as there.
struct EvaluationResult {
  std::string name;
  double value = 0.0;
};
[[nodiscard]] std::vector<EvaluationResult> evaluation_results(const Evaluation& evaluation);

/// metrics.jsonl: one JSON object a line, flushed. Only rank 0 has one.
class MetricsFile {
 public:
  /// Appends. \throws IoError
  explicit MetricsFile(const std::string& path);
  void write(const StepMetrics& metrics);
  void write(std::int64_t step, double epoch, const Evaluation& evaluation);

 private:
  void line(const std::string& text);
  std::string path_;
  std::ofstream file_;
};

/// The totals of a run under the names of Hugging Face's run_translation.
struct RunTotals {
  double epoch = 0.0;
  double train_seconds = 0.0;
  double train_loss = 0.0;
  std::int64_t train_samples = 0;  // of the data set
  std::int64_t samples_seen = 0;
  std::int64_t steps = 0;
  std::string accounting;  // a JSON object: RunAccounting::json(); "": none
};

/// Writes all_results.json: what `path` held already, with these totals and evaluation (either may be null) over it, as Hugging
/// Face's save_metrics does.
/// \param prefix  of the evaluation's names: "eval" for validation data, "predict" for test data
/// \throws IoError
void write_all_results(const std::string& path, const RunTotals* totals, const Evaluation* evaluation,
                       const std::string& prefix = "eval");

/// The evaluation as one JSON object, for standard output.
[[nodiscard]] std::string evaluation_json(const Evaluation& evaluation);
/// The same for the log, as one sentence.
[[nodiscard]] std::string evaluation_text(const Evaluation& evaluation);

/// generated_predictions.txt: one line for each evaluated item.
[[nodiscard]] std::string predictions_text(const Evaluation& evaluation);

}  // namespace spillway::train
