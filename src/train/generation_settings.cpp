// SPDX-License-Identifier: Apache-2.0
#include "train/generation_settings.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/edit_distance.hpp"
#include "core/error.hpp"
#include "core/json_depth.hpp"
#include "core/log.hpp"

namespace spillway::train {
namespace {

using nlohmann::json;

constexpr std::int64_t kMostBeams = 10000;

/// Takes values of one JSON object that the model brings into keys that nobody set.
class Settings {
 public:
  Settings(const json& object, std::string origin) : object_(object), origin_(std::move(origin)) {}

  void take(const char* key, std::optional<std::int64_t>& value) const {
    if (value || !has(key)) return;
    if (!object_.at(key).is_number_integer()) fail(key, "a whole number");
    value = object_.at(key).get<std::int64_t>();
  }
  void take(const char* key, std::optional<double>& value) const {
    if (value || !has(key)) return;
    if (!object_.at(key).is_number()) fail(key, "a number");
    value = object_.at(key).get<double>();
  }
  void take(const char* key, std::optional<EarlyStopping>& value) const {
    if (value || !has(key)) return;
    const json& found = object_.at(key);
    if (found.is_boolean()) value = found.get<bool>() ? EarlyStopping::yes : EarlyStopping::no;
    else if (found == "never") value = EarlyStopping::never;
    else fail(key, "true, false or \"never\"");
  }
  void take(const char* key, std::optional<std::string>& value) const {
    if (value || !has(key)) return;
    if (!object_.at(key).is_string()) fail(key, "a string");
    value = object_.at(key).get<std::string>();
  }

  void take_all(EvalOptions& eval) const {
    take("num_beams", eval.num_beams);
    take("max_length", eval.max_length);
    take("min_length", eval.min_length);
    take("length_penalty", eval.length_penalty);
    take("early_stopping", eval.early_stopping);
    take("no_repeat_ngram_size", eval.no_repeat_ngram_size);
    take("repetition_penalty", eval.repetition_penalty);
    take("num_return_sequences", eval.num_return_sequences);
  }

 private:
  [[nodiscard]] bool has(const char* key) const { return object_.contains(key) && !object_.at(key).is_null(); }
  [[noreturn]] void fail(const char* key, const char* expected) const {
    throw DataError(
        fmt::format("{}: key \"{}\": expected {}, found {}", origin_, key, expected, object_.at(key).dump()));
  }

  const json& object_;
  std::string origin_;
};

/// The model's task_specific_params; an empty object if it has none.
json tasks_of(const ModelSource& source) {
  const json config = json::parse(source.config.json, nullptr, false);
  if (!config.is_object() || !config.contains("task_specific_params")) return json::object();
  const json tasks = config["task_specific_params"];
  return tasks.is_object() ? tasks : json::object();
}

[[noreturn]] void fail_unknown(const std::string& task, const json& tasks) {
  if (tasks.empty())
    throw ConfigError(fmt::format("eval.task = \"{}\": the model's config.json has no task_specific_params", task));
  std::string nearest = tasks.begin().key();
  for (const auto& [name, entry] : tasks.items())
    if (edit_distance(name, task) < edit_distance(nearest, task)) nearest = name;
  throw ConfigError(fmt::format("eval.task = \"{}\" is none of the model's task_specific_params; the nearest is \"{}\"",
                                task, nearest));
}

void check(const char* key, bool good, const char* expected, auto found) {
  if (!good) throw ConfigError(fmt::format("eval.{}: expected {}, found {}", key, expected, found));
}

}  // namespace

void apply_task(RunOptions& options, const ModelSource& source) {
  const std::string& task = options.eval.task;
  if (task.empty()) return;
  const json tasks = tasks_of(source);
  if (!tasks.contains(task)) fail_unknown(task, tasks);
  const Settings settings(tasks.at(task),
                          fmt::format("{}/config.json: task_specific_params.{}", source.directory, task));
  settings.take_all(options.eval);
  settings.take("prefix", options.data.source_prefix);
}

model::GenerationOptions generation_options(const EvalOptions& eval, const ModelSource& source) {
  EvalOptions all = eval;
  if (!source.generation_json.empty()) {
    const std::string origin = source.directory + "/generation_config.json";
    check_json_depth(source.generation_json, origin);
    const json defaults = json::parse(source.generation_json, nullptr, false);
    if (!defaults.is_object()) throw DataError(fmt::format("{}: expected a JSON object", origin));
    Settings(defaults, origin).take_all(all);
    if (defaults.contains("do_sample") && defaults["do_sample"] == true)
      log::warning(fmt::format("{}: do_sample = true is left out: generation here never samples", origin));
  }
  const EarlyStopping early = all.early_stopping.value_or(EvalOptions::kEarlyStopping);
  const std::int64_t beams = all.num_beams.value_or(EvalOptions::kNumBeams);
  const std::int64_t returned = all.num_return_sequences.value_or(EvalOptions::kNumReturnSequences);
  model::GenerationOptions options{
      .num_beams = static_cast<int>(beams),
      .max_length = all.max_length.value_or(EvalOptions::kMaxLength),
      .min_length = all.min_length.value_or(EvalOptions::kMinLength),
      .length_penalty = all.length_penalty.value_or(EvalOptions::kLengthPenalty),
      .early_stopping = early == EarlyStopping::yes  ? model::EarlyStopping::yes
                        : early == EarlyStopping::no ? model::EarlyStopping::no
                                                     : model::EarlyStopping::never,
      .no_repeat_ngram_size = all.no_repeat_ngram_size.value_or(EvalOptions::kNoRepeatNgramSize),
      .repetition_penalty = all.repetition_penalty.value_or(EvalOptions::kRepetitionPenalty),
      .num_return_sequences = static_cast<int>(returned)};
  check("num_beams", beams >= 1 && beams <= kMostBeams, "1 to 10000", beams);
  check("max_length", options.max_length >= 2, "at least 2 (the start token counts)", options.max_length);
  check("min_length", options.min_length >= 0, "at least 0", options.min_length);
  check("no_repeat_ngram_size", options.no_repeat_ngram_size >= 0, "at least 0", options.no_repeat_ngram_size);
  check("repetition_penalty", options.repetition_penalty > 0.0, "a number above 0", options.repetition_penalty);
  check("num_return_sequences", returned >= 1 && returned <= beams,
        fmt::format("1 to eval.num_beams, which is {}", beams).c_str(), returned);
  return options;
}

}  // namespace spillway::train
