// SPDX-License-Identifier: Apache-2.0
#include "train/metrics.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/text_file.hpp"

namespace spillway::train {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

/// Digits after the point, as Hugging Face rounds its results.
double rounded(double value, int digits) {
  const double scale = std::pow(10.0, digits);
  return std::round(value * scale) / scale;
}

template <typename Json>
void add_evaluation(Json& object, const Evaluation& evaluation, const std::string& prefix) {
  for (const EvaluationResult& result : evaluation_results(evaluation))
    object[prefix + "_" + result.name] = result.value;
  object[prefix + "_samples"] = evaluation.samples;
}

ordered_json resources_json(const MeasuredResources& resources) {
  ordered_json object = ordered_json::object();
  for (std::size_t i = 0; i < plan::kResources; ++i) {
    const MeasuredUse& use = resources.uses[i];
    ordered_json entry = ordered_json::object();
    if (use.busy_seconds) entry["busy_seconds"] = *use.busy_seconds;
    if (use.bytes) entry["bytes"] = *use.bytes;
    if (!entry.empty()) object[plan::name_of(static_cast<plan::Resource>(i))] = entry;
  }
  return object;
}

}  // namespace

std::vector<EvaluationResult> evaluation_results(const Evaluation& e) {
  std::vector<EvaluationResult> results = {{"loss", rounded(e.loss, 4)}};
  if (e.bleu) {
    results.push_back({"bleu", rounded(e.bleu->score, 4)});
    results.push_back({"bleu_copy", rounded(e.copied->score, 4)});
  }
  if (e.rouge) {
    results.push_back({"rouge1", rounded(e.rouge->rouge1, 4)});
    results.push_back({"rouge2", rounded(e.rouge->rouge2, 4)});
    results.push_back({"rougeL", rounded(e.rouge->rouge_l, 4)});
    results.push_back({"rougeLsum", rounded(e.rouge->rouge_lsum, 4)});
  }
  if (e.generated) results.push_back({"gen_len", rounded(e.generated_length, 4)});
  results.push_back({"runtime", rounded(e.seconds, 4)});
  results.push_back({"samples_per_second", rounded(static_cast<double>(e.samples) / e.seconds, 3)});
  results.push_back({"steps_per_second", rounded(static_cast<double>(e.batches) / e.seconds, 3)});
  return results;
}

MetricsFile::MetricsFile(const std::string& path) : path_(path), file_(path, std::ios::app) {
  if (!file_) throw IoError(fmt::format("{}: cannot be opened for appending", path), errno);
}

void MetricsFile::line(const std::string& text) {
  file_ << text << '\n' << std::flush;
  if (!file_) throw IoError(fmt::format("{}: cannot be written", path_), errno);
}

void MetricsFile::write(const StepMetrics& m) {
  ordered_json object;
  object["step"] = m.step;
  object["epoch"] = rounded(m.epoch, 4);
  object["loss"] = m.loss;
  object["grad_norm"] = m.grad_norm;
  object["learning_rate"] = m.learning_rate;
  if (m.loss_scale) object["loss_scale"] = *m.loss_scale;
  object["skipped"] = m.skipped;
  object["seconds_per_step"] = m.seconds_per_step;
  object["tokens_per_second"] = rounded(m.tokens_per_second, 1);
  object["samples_per_second"] = rounded(m.samples_per_second, 3);
  if (m.model_flops_utilization) object["model_flops_utilization"] = rounded(*m.model_flops_utilization, 4);
  object["device_bytes"] = m.device_bytes;
  object["host_bytes"] = m.host_bytes;
  object["peak_host_bytes"] = m.peak_host_bytes;
  if (m.taken_device_bytes) object["taken_device_bytes"] = *m.taken_device_bytes;
  object["nvme_read_bytes"] = m.nvme.read_bytes;
  object["nvme_write_bytes"] = m.nvme.written_bytes;
  object["compute_seconds"] = m.clock.seconds(Activity::compute);
  object["data_seconds"] = m.clock.seconds(Activity::data);
  object["stall_seconds"] = {{"h2d", m.clock.seconds(Activity::h2d)},
                             {"d2h", m.clock.seconds(Activity::d2h)},
                             {"nvme", m.clock.seconds(Activity::nvme)},
                             {"collective", m.clock.seconds(Activity::collective)},
                             {"cpu_update", m.clock.seconds(Activity::cpu_update)},
                             {"checkpoint", m.clock.seconds(Activity::checkpoint) + m.save_seconds}};
  object["resources"] = resources_json(m.resources);
  line(object.dump());
}

void MetricsFile::write(std::int64_t step, double epoch, const Evaluation& evaluation) {
  ordered_json object;
  object["step"] = step;
  object["epoch"] = rounded(epoch, 4);
  add_evaluation(object, evaluation, "eval");
  line(object.dump());
}

void write_all_results(const std::string& path, const RunTotals* totals, const Evaluation* evaluation,
                       const std::string& prefix) {
  json object = json::object();
  if (std::ifstream file(path); file) {
    object = json::parse(file, nullptr, false);
    if (!object.is_object()) object = json::object();
  }
  if (totals != nullptr) {
    object["epoch"] = rounded(totals->epoch, 4);
    object["train_loss"] = rounded(totals->train_loss, 4);
    object["train_runtime"] = rounded(totals->train_seconds, 4);
    object["train_samples"] = totals->train_samples;
    object["train_samples_per_second"] =
        rounded(static_cast<double>(totals->samples_seen) / std::max(totals->train_seconds, 1e-9), 3);
    object["train_steps_per_second"] =
        rounded(static_cast<double>(totals->steps) / std::max(totals->train_seconds, 1e-9), 3);
    if (!totals->accounting.empty()) object["accounting"] = json::parse(totals->accounting);
  }
  if (evaluation != nullptr) add_evaluation(object, *evaluation, prefix);
  write_text(path, object.dump(4) + "\n");
}

std::string evaluation_json(const Evaluation& evaluation) {
  ordered_json object;
  add_evaluation(object, evaluation, "eval");
  return object.dump(2) + "\n";
}

std::string evaluation_text(const Evaluation& e) {
  std::string text = fmt::format("loss {:.4f}", e.loss);
  if (e.bleu) text += fmt::format(", BLEU {:.2f} (copying the source: {:.2f})", e.bleu->score, e.copied->score);
  if (e.rouge)
    text += fmt::format(", ROUGE-1 {:.2f}, ROUGE-2 {:.2f}, ROUGE-L {:.2f}", e.rouge->rouge1, e.rouge->rouge2,
                        e.rouge->rouge_l);
  if (e.generated) text += fmt::format(", {:.1f} tokens a prediction, {:.1f} s", e.generated_length, e.seconds);
  if (e.bleu) text += "\n" + e.bleu->text();
  return text;
}

std::string predictions_text(const Evaluation& evaluation) {
  std::string text;
  for (std::string line : evaluation.predictions) {
    std::replace(line.begin(), line.end(), '\n', ' ');
    text += line + '\n';
  }
  return text;
}

}  // namespace spillway::train
