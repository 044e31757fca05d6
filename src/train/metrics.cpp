// SPDX-License-Identifier: Apache-2.0
#include "train/metrics.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.hpp"

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
void add_evaluation(Json& object, const Evaluation& evaluation) {
  object["eval_loss"] = rounded(evaluation.loss, 4);
  if (evaluation.bleu) {
    object["eval_bleu"] = rounded(evaluation.bleu->score, 4);
    object["eval_bleu_copy"] = rounded(evaluation.copied->score, 4);
    object["eval_gen_len"] = rounded(evaluation.generated_length, 4);
  }
  object["eval_samples"] = evaluation.samples;
  object["eval_runtime"] = rounded(evaluation.seconds, 4);
  object["eval_samples_per_second"] = rounded(static_cast<double>(evaluation.samples) / evaluation.seconds, 3);
}

}  // namespace

void write_file(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".tmp";
  {
    std::ofstream file(temporary, std::ios::binary);
    file << text;
    file.close();
    if (!file) throw IoError(fmt::format("{}: cannot be written", temporary), errno);
  }
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  if (error) throw IoError(fmt::format("{}: cannot be renamed to {}", temporary, path), error.value());
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
  object["skipped"] = 0;
  object["seconds_per_step"] = m.seconds_per_step;
  object["tokens_per_second"] = rounded(m.tokens_per_second, 1);
  object["samples_per_second"] = rounded(m.samples_per_second, 3);
  object["device_bytes"] = m.device_bytes;
  object["host_bytes"] = m.host_bytes;
  object["peak_host_bytes"] = m.peak_host_bytes;
  object["nvme_read_bytes"] = m.nvme.read_bytes;
  object["nvme_write_bytes"] = m.nvme.written_bytes;
  object["compute_seconds"] = m.clock.seconds(Activity::compute);
  object["data_seconds"] = m.clock.seconds(Activity::data);
  object["stall_seconds"] = {{"h2d", 0.0},
                             {"d2h", 0.0},
                             {"nvme", m.clock.seconds(Activity::nvme)},
                             {"collective", m.clock.seconds(Activity::collective)},
                             {"cpu_update", m.clock.seconds(Activity::cpu_update)}};
  line(object.dump());
}

void MetricsFile::write(std::int64_t step, double epoch, const Evaluation& evaluation) {
  ordered_json object;
  object["step"] = step;
  object["epoch"] = rounded(epoch, 4);
  add_evaluation(object, evaluation);
  line(object.dump());
}

void write_all_results(const std::string& path, const RunTotals* totals, const Evaluation* evaluation) {
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
  }
  if (evaluation != nullptr) add_evaluation(object, *evaluation);
  write_file(path, object.dump(4) + "\n");
}

std::string evaluation_json(const Evaluation& evaluation) {
  ordered_json object;
  add_evaluation(object, evaluation);
  return object.dump(2) + "\n";
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
