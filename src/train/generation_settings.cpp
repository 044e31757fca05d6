// SPDX-License-Identifier: Apache-2.0
#include "train/generation_settings.hpp"

#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "core/edit_distance.hpp"
#include "core/error.hpp"
#include "core/json_depth.hpp"
#include "core/log.hpp"

namespace spillway::train {
namespace {

using nlohmann::json;

constexpr std::int64_t kMostBeams = EvalOptions::kMostBeams, kMostTokens = EvalOptions::kMostTokens;

/// Takes values of one JSON object that the model brings into keys that nobody set.
class Settings {
 public:
  Settings(json object, std::string origin) : object_(std::move(object)), origin_(std::move(origin)) {}

  void take(const char* key, std::optional<std::int64_t>& value, std::int64_t most) const {
    if (value || !has(key)) return;
    const json& found = object_.at(key);
    if (!found.is_number_integer()) fail(key, "a whole number");
    // As it is written: one of 2^63 and above would come out negative.
    if (found.is_number_unsigned() && found.get<std::uint64_t>() > static_cast<std::uint64_t>(most))
      fail(key, fmt::format("at most {}", most));
    value = found.get<std::int64_t>();
  }
  /// A key that counts new tokens, where the start token does not count.
  void take_new_tokens(const char* key, std::optional<std::int64_t>& value) const {
    if (value) return;
    take(key, value, kMostTokens - 1);
    if (value && *value < 0) fail(key, "at least 0");
    if (value) ++*value;
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
    take("num_beams", eval.num_beams, kMostBeams);
    // As in transformers, numbers of new tokens go before lengths.
    take_new_tokens("max_new_tokens", eval.max_length);
    take_new_tokens("min_new_tokens", eval.min_length);
    take("max_length", eval.max_length, kMostTokens);
    take("min_length", eval.min_length, kMostTokens);
    take("length_penalty", eval.length_penalty);
    take("early_stopping", eval.early_stopping);
    take("no_repeat_ngram_size", eval.no_repeat_ngram_size, kMostTokens);
    take("repetition_penalty", eval.repetition_penalty);
    take("num_return_sequences", eval.num_return_sequences, kMostBeams);
  }

 private:
  [[nodiscard]] bool has(const char* key) const { return object_.contains(key) && !object_.at(key).is_null(); }
  [[noreturn]] void fail(const char* key, const std::string& expected) const {
    throw DataError(
        fmt::format("{}: key \"{}\": expected {}, found {}", origin_, key, expected, object_.at(key).dump()));
  }

  json object_;
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

void check(const char* key, bool good, const std::string& expected, auto found) {
  if (!good) throw ConfigError(fmt::format("eval.{}: expected {}, found {}", key, expected, found));
}

void check_range(const char* key, std::int64_t found, std::int64_t least, std::int64_t most, const char* note = "") {
  check(key, found >= least && found <= most, fmt::format("{} to {}{}", least, most, note), found);
}

/// The model's generation_config.json; an empty object if it has none.
json defaults_of(const ModelSource& source) {
  if (source.generation_json.empty()) return json::object();
  const std::string origin = source.directory + "/generation_config.json";
  check_json_depth(source.generation_json, origin);
  json defaults = json::parse(source.generation_json, nullptr, false);
  if (!defaults.is_object()) throw DataError(fmt::format("{}: expected a JSON object", origin));
  return defaults;
}

/// Entries that change what transformers generates without sampling, each with a value that changes nothing; null, an empty list
/// and false never do. What only sampling reads (temperature, top_k) is not among them: do_sample stands for it.
const json& unsupported_entries() {
  static const json entries = {{"do_sample", false},
                               {"num_beam_groups", 1},
                               {"penalty_alpha", 0},
                               {"encoder_no_repeat_ngram_size", 0},
                               {"encoder_repetition_penalty", 1},
                               {"guidance_scale", 1},
                               {"forced_bos_token_id", nullptr},
                               {"forced_eos_token_id", nullptr},
                               {"forced_decoder_ids", nullptr},
                               {"bad_words_ids", nullptr},
                               {"force_words_ids", nullptr},
                               {"constraints", nullptr},
                               {"sequence_bias", nullptr},
                               {"suppress_tokens", nullptr},
                               {"begin_suppress_tokens", nullptr},
                               {"exponential_decay_length_penalty", nullptr},
                               {"remove_invalid_values", false},
                               {"renormalize_logits", false},
                               {"stop_strings", nullptr},
                               {"max_time", nullptr}};
  return entries;
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

std::vector<std::string> entries_left_out(const ModelSource& source) {
  const json defaults = defaults_of(source);
  std::vector<std::string> left_out;
  for (const auto& [key, neutral] : unsupported_entries().items())
    if (const auto found = defaults.find(key);
        found != defaults.end() && !found->empty() && *found != false && *found != neutral)
      left_out.push_back(key);
  for (const auto& [key, id] : {std::pair{"eos_token_id", source.config.eos_token_id},
                                std::pair{"decoder_start_token_id", source.config.decoder_start_token_id}})
    if (const auto found = defaults.find(key);
        found != defaults.end() && !found->is_null() && *found != id && *found != json::array({id}))
      left_out.emplace_back(key);
  return left_out;
}

model::GenerationOptions generation_options(const EvalOptions& eval, const ModelSource& source) {
  EvalOptions all = eval;
  const std::string origin = source.directory + "/generation_config.json";
  Settings(defaults_of(source), origin).take_all(all);
  if (const auto left_out = entries_left_out(source); !left_out.empty())
    log::warning(fmt::format("{}: generation here does not follow {}", origin, fmt::join(left_out, ", ")));
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
  const auto penalty = static_cast<float>(options.repetition_penalty);  // what scores are multiplied with
  check_range("num_beams", beams, 1, kMostBeams);
  check_range("max_length", options.max_length, 2, kMostTokens, " (the start token counts)");
  check_range("min_length", options.min_length, 0, kMostTokens);
  check_range("no_repeat_ngram_size", options.no_repeat_ngram_size, 0, kMostTokens);
  check("repetition_penalty", penalty > 0.0F && std::isfinite(penalty), "a number above 0 that fp32 can hold",
        options.repetition_penalty);
  check("num_return_sequences", returned >= 1 && returned <= beams,
        fmt::format("1 to eval.num_beams, which is {}", beams), returned);
  return options;
}

}  // namespace spillway::train
