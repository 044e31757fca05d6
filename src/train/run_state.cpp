// SPDX-License-Identifier: Apache-2.0
#include "train/run_state.hpp"

#include <cmath>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/json_depth.hpp"
#include "core/log.hpp"

namespace spillway::train {
namespace {

using nlohmann::json;

constexpr int kFormat = 2;

/// What may change on resume: where state lives, how much runs at a time, what is written for people (docs/configuration.md, Resuming).
bool may_change(const std::string& key) {
  static const std::set<std::string> keys = {"model.path",
                                             "model.init",
                                             "model.tokenizer",
                                             "data.val",
                                             "data.test",
                                             "data.max_eval_samples",
                                             "train.output_dir",
                                             "train.device",
                                             "train.precision",
                                             "train.per_device_train_batch_size",
                                             "train.gradient_accumulation_steps",
                                             "train.global_batch_size",
                                             "train.num_train_epochs",
                                             "train.max_steps",
                                             "train.gradient_checkpointing",
                                             "train.tf32",
                                             "train.logging_steps",
                                             "train.collective_timeout",
                                             "train.consistency_check_steps",
                                             "train.time_limit",
                                             "optimizer.state_format"};
  if (key == "eval.task") return false;  // its prefix stands in front of every training source
  for (const char* section : {"zero.", "memory.", "offload.", "checkpoint.", "eval.", "report.", "loss_scale."})
    if (key.starts_with(section)) return true;
  return keys.contains(key);
}

std::string precision_name(DType dtype) {
  return dtype == DType::bf16 ? "bf16" : dtype == DType::f16 ? "fp16" : "fp32";
}

/// \throws ConfigError with the changes, or warns of them
void refuse(const std::string& changes, bool allow) {
  if (changes.empty()) return;
  if (!allow)
    throw ConfigError("resuming would change what must not change (checkpoint.allow_changes = true allows it):" +
                      changes);
  log::warning("resuming with changes, as checkpoint.allow_changes says:" + changes);
}

}  // namespace

NumericSignature numeric_signature(const Job& job) {
  return {{"global_batch_size", std::to_string(job.global_batch_size)},
          {"micro_batches", std::to_string(job.micro_batches)},
          {"groups", std::to_string(job.plan.program.groups)},
          {"ranks", std::to_string(job.map->ranks())},
          {"precision", precision_name(job.dtype())},
          {"reduce_dtype", precision_name(job.gradients.reduce)},
          {"grad_dtype", precision_name(job.gradients.grad)},
          {"device", job.on_gpu ? "cuda" : "cpu"}};
}

std::string to_json(const RunState& state) {
  json object = {{"format", kFormat},
                 {"step", state.step},
                 {"optimizer_step", state.optimizer_step},
                 {"epoch", state.cursor.epoch},
                 {"position", state.cursor.position},
                 {"total_steps", state.total_steps},
                 {"global_batch_size", state.global_batch_size},
                 {"best_step", state.best_step},
                 {"train_seconds", state.train_seconds},
                 {"loss_sum", state.loss_sum},
                 {"stopped", state.stopped},
                 {"config_toml", state.config.toml},
                 {"config", state.config.values},
                 {"numeric_signature", state.signature},
                 {"contents", state.contents},
                 {"model", state.model_json},
                 {"model_dtype", name_of(state.model_dtype)},
                 {"generation_config", state.generation_json},
                 {"tokenizer", state.tokenizer}};
  if (state.best_metric) {
    object["best_metric"] = *state.best_metric;
    object["best_metric_name"] = state.best_metric_name;
  }
  if (state.loss_scale) {
    const LossScaler::State& scaler = *state.loss_scale;
    object["loss_scale"] = {{"scale", scaler.scale},
                            {"step", scaler.step},
                            {"last_overflow", scaler.last_overflow},
                            {"hysteresis", scaler.hysteresis}};
  }
  return object.dump(2);
}

RunState run_state_from_json(const std::string& text, const std::string& origin) {
  check_json_depth(text, origin + ": run metadata");
  try {
    const json object = json::parse(text);
    if (object.at("format").get<int>() != kFormat)
      throw DataError(
          fmt::format("{}: run metadata: expected format {}, found {}", origin, kFormat, object.at("format").dump()));
    RunState state;
    state.step = object.at("step");
    state.optimizer_step = object.at("optimizer_step");
    state.cursor = {.epoch = object.at("epoch"), .position = object.at("position")};
    state.total_steps = object.at("total_steps");
    state.global_batch_size = object.at("global_batch_size");
    state.best_step = object.at("best_step");
    state.train_seconds = object.at("train_seconds");
    state.loss_sum = object.at("loss_sum");
    state.stopped = object.at("stopped");
    state.config.toml = object.at("config_toml");
    state.config.values = object.at("config").get<std::map<std::string, std::string>>();
    state.signature = object.at("numeric_signature").get<NumericSignature>();
    state.contents = object.at("contents").get<ContentRecord>();
    state.model_json = object.at("model");
    const std::string dtype = object.at("model_dtype");
    state.model_dtype = dtype == "bf16" ? DType::bf16 : dtype == "f16" ? DType::f16 : DType::f32;
    state.generation_json = object.at("generation_config");
    state.tokenizer = object.at("tokenizer");
    if (object.contains("loss_scale")) {
      const json& scaler = object.at("loss_scale");
      state.loss_scale = LossScaler::State{.scale = scaler.at("scale"),
                                           .step = scaler.at("step"),
                                           .last_overflow = scaler.at("last_overflow"),
                                           .hysteresis = scaler.at("hysteresis")};
    }
    if (object.contains("best_metric")) {
      state.best_metric = object.at("best_metric").get<double>();
      state.best_metric_name = object.at("best_metric_name");
    }
    return state;
  } catch (const json::exception& error) {
    throw DataError(fmt::format("{}: run metadata: {}", origin, error.what()));
  }
}

void check_changes(const RunState& saved, const ConfigRecord& now, bool allow) {
  std::string changes;
  std::set<std::string> keys;
  for (const auto& [key, value] : saved.config.values) keys.insert(key);
  for (const auto& [key, value] : now.values) keys.insert(key);
  for (const std::string& key : keys) {
    if (may_change(key)) continue;
    const auto before = saved.config.values.find(key);
    const auto after = now.values.find(key);
    const std::string old_value = before == saved.config.values.end() ? "(not there)" : before->second;
    const std::string new_value = after == now.values.end() ? "(not there)" : after->second;
    if (old_value != new_value)
      changes += fmt::format("\n  {}: the checkpoint has {}, the configuration {}", key, old_value, new_value);
  }
  refuse(changes, allow);
}

void check_contents(const RunState& saved, const ContentRecord& now, bool allow) {
  refuse(differences(saved.contents, "the checkpoint", now, "this run"), allow);
}

bool take_if_best(RunState& state, const std::string& name, double value, bool greater_is_better) {
  if (!std::isfinite(value)) return false;
  const bool comparable = state.best_metric && state.best_metric_name == name;
  if (comparable && !(greater_is_better ? value > *state.best_metric : value < *state.best_metric)) return false;
  state.best_metric = value;
  state.best_metric_name = name;
  state.best_step = state.step;
  return true;
}

std::string signature_changes(const NumericSignature& saved, const NumericSignature& now) {
  std::string changes;
  for (const auto& [part, value] : now) {
    const auto before = saved.find(part);
    if (before == saved.end() || before->second != value)
      changes += fmt::format("{}{} {} -> {}", changes.empty() ? "" : ", ", part,
                             before == saved.end() ? "?" : before->second, value);
  }
  return changes;
}

}  // namespace spillway::train
