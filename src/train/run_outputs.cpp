// SPDX-License-Identifier: Apache-2.0
#include "train/run_outputs.hpp"

#include <array>
#include <chrono>
#include <filesystem>
#include <vector>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "core/host_name.hpp"
#include "core/text_file.hpp"
#include "train/plan_file.hpp"

namespace spillway::train {
namespace {

/// Hugging Face's name for the folder of a run's events: "Nov23_08-15-00_host".
std::string events_folder() {
  return fmt::format("runs/{:%b%d_%H-%M-%S}_{}", fmt::localtime(std::time(nullptr)), host_name());
}

}  // namespace

RunOutputs::RunOutputs(const Job& job, const ConfigRecord& config) : folder_(job.options.train.output_dir) {
  std::filesystem::remove(path("REQUEUE"));
  write_text(path("config.toml"), config.toml);
  write_text(path("plan.json"), plan_json(job));
  metrics_.emplace(path("metrics.jsonl"));
  if (job.options.report.tensorboard) events_.emplace(path(events_folder()));
}

void RunOutputs::write(const StepMetrics& m) {
  metrics_->write(m);
  if (!events_) return;
  const std::array<Scalar, 7> scalars = {{{"train/loss", m.loss},
                                          {"train/grad_norm", m.grad_norm},
                                          {"train/learning_rate", m.learning_rate},
                                          {"train/epoch", m.epoch},
                                          {"train/samples_per_second", m.samples_per_second},
                                          {"train/tokens_per_second", m.tokens_per_second},
                                          {"train/seconds_per_step", m.seconds_per_step}}};
  events_->write(m.step, scalars);
}

void RunOutputs::write(std::int64_t step, double epoch, const Evaluation& evaluation) {
  metrics_->write(step, epoch, evaluation);
  if (evaluation.generated) write_text(path("generated_predictions.txt"), predictions_text(evaluation));
  if (!events_) return;
  std::vector<Scalar> scalars = {{"train/epoch", epoch}};
  for (const EvaluationResult& result : evaluation_results(evaluation))
    scalars.push_back({"eval/" + result.name, result.value});
  events_->write(step, scalars);
}

void RunOutputs::finish(const RunTotals& totals, const Evaluation* evaluation) {
  write_all_results(path("all_results.json"), &totals, evaluation);
}

void RunOutputs::ask_for_requeue(const std::string& reason) { write_text(path("REQUEUE"), reason); }

}  // namespace spillway::train
