// SPDX-License-Identifier: Apache-2.0
#include "app/config_schema.hpp"

#include <gmock/gmock.h>

#include "app/config_lookup.hpp"
#include "app/run_config.hpp"
#include "app/toml_reader.hpp"

namespace spillway::app {
namespace {

struct Expected {
  const char* name;
  const char* normally;  // the default in TOML; "" where the model decides
  const char* other;     // another value that the key's type allows, spelled as it is printed
};

// The contract with users: every key and its default.
const std::vector<Expected> kExpected = {
    {"model.path", R"("")", R"("t5-small")"},
    {"model.init", R"("pretrained")", R"("random")"},
    {"model.tokenizer", R"("")", R"("bytes")"},
    {"model.dropout_rate", "-1.0", "0.1"},
    {"model.embedding_std", "0.0", "0.1"},
    {"data.train", R"("")", R"(["a", "b.tsv"])"},
    {"data.val", R"("")", R"("a")"},
    {"data.test", R"("")", R"("a.jsonl")"},
    {"data.source_key", R"("source")", R"("translation.en")"},
    {"data.target_key", R"("target")", R"("translation.ro")"},
    {"data.source_prefix", "", R"("translate: ")"},
    {"data.max_source_length", "128", "1"},
    {"data.max_target_length", "128", "1"},
    {"data.max_train_samples", "0", "1"},
    {"data.max_eval_samples", "0", "1"},
    {"data.shuffle", "true", "false"},
    {"train.output_dir", R"("out")", R"("a")"},
    {"train.device", R"("auto")", R"("cpu")"},
    {"train.precision", R"("auto")", R"("fp32")"},
    {"train.per_device_train_batch_size", "8", "1"},
    {"train.gradient_accumulation_steps", "1", "2"},
    {"train.global_batch_size", "0", "1"},
    {"train.num_train_epochs", "3.0", "0.5"},
    {"train.max_steps", "0", "1"},
    {"train.max_grad_norm", "1.0", "0.0"},
    {"train.label_smoothing_factor", "0.0", "0.1"},
    {"train.gradient_checkpointing", R"("auto")", R"("off")"},
    {"train.freeze_embeds", "false", "true"},
    {"train.freeze_encoder", "false", "true"},
    {"train.tf32", "false", "true"},
    {"train.seed", "42", "0"},
    {"train.logging_steps", "10", "1"},
    {"train.collective_timeout", R"("5m")", R"("6m")"},
    {"train.consistency_check_steps", "0", "1"},
    {"train.time_limit", R"("")", R"("3h50m")"},
    {"optimizer.name", R"("adamw")", nullptr},
    {"optimizer.learning_rate", "5e-05", "0.003"},
    {"optimizer.betas", "[0.9, 0.999]", "[0.0, 0.5]"},
    {"optimizer.eps", "1e-08", "1e-06"},
    {"optimizer.weight_decay", "0.0", "0.01"},
    {"optimizer.state_format", R"("fp32")", nullptr},
    {"optimizer.scale_parameter", "false", "true"},
    {"optimizer.relative_step", "false", "true"},
    {"optimizer.warmup_init", "false", "true"},
    {"optimizer.clip_threshold", "1.0", "2.0"},
    {"schedule.lr_scheduler_type", R"("linear")", R"("constant_with_warmup")"},
    {"schedule.warmup_steps", "0", "1"},
    {"schedule.warmup_ratio", "0.0", "1.0"},
    {"loss_scale.static", "0.0", "1.0"},
    {"loss_scale.initial_scale_power", "16", "8"},
    {"loss_scale.window", "1000", "1"},
    {"loss_scale.hysteresis", "2", "1"},
    {"loss_scale.min", "1.0", "2.0"},
    {"zero.stage", "3", "0"},
    {"zero.reduce_dtype", R"("auto")", R"("fp32")"},
    {"zero.grad_dtype", R"("auto")", R"("fp32")"},
    {"zero.shard_group", R"("all")", nullptr},
    {"memory.device", R"("auto")", R"("24GiB")"},
    {"memory.host", R"("auto")", R"("24GiB")"},
    {"memory.nvme", R"("auto")", R"("24GiB")"},
    {"offload.placement", R"("auto")", R"("nvme")"},
    {"offload.weight", R"("auto")", R"("device")"},
    {"offload.master", R"("auto")", R"("device")"},
    {"offload.exp_avg", R"("auto")", R"("host")"},
    {"offload.exp_avg_sq", R"("auto")", R"("nvme")"},
    {"offload.nvme_dirs", "[]", R"(["a", "b"])"},
    {"offload.optimizer_on", R"("auto")", R"("cpu")"},
    {"offload.store", R"("auto")", R"("memory")"},
    {"offload.queue_depth", "32", "1"},
    {"offload.extent_size", R"("16MiB")", R"("4KiB")"},
    {"offload.checksum", "true", "false"},
    {"checkpoint.dir", R"("")", R"("a")"},
    {"checkpoint.save_steps", "500", R"("epoch")"},
    {"checkpoint.save_total_limit", "2", "0"},
    {"checkpoint.load_best_model_at_end", "false", "true"},
    {"checkpoint.export_dtype", R"("auto")", R"("bf16")"},
    {"checkpoint.resume", R"("auto")", R"("none")"},
    {"checkpoint.async", "true", "false"},
    {"checkpoint.save_final", "true", "false"},
    {"checkpoint.export", "true", "false"},
    {"checkpoint.allow_changes", "false", "true"},
    {"eval.task", R"("")", R"("translation_en_to_ro")"},
    {"eval.eval_steps", "0", R"("epoch")"},
    {"eval.per_device_eval_batch_size", "16", "1"},
    {"eval.predict_with_generate", "true", "false"},
    {"eval.num_beams", "", "1"},
    {"eval.max_length", "", "2"},
    {"eval.min_length", "", "1"},
    {"eval.length_penalty", "", "-1.0"},
    {"eval.early_stopping", "", R"("never")"},
    {"eval.no_repeat_ngram_size", "", "1"},
    {"eval.repetition_penalty", "", "1.5"},
    {"eval.num_return_sequences", "", "2"},
    {"eval.metric", R"("bleu")", R"("rouge")"},
    {"report.html", "true", "false"},
    {"report.trace", "false", "true"},
    {"report.trace_first", "10", "0"},
    {"report.trace_last", "12", "0"},
    {"report.tensorboard", "false", "true"},
};

std::vector<std::string> printed(const train::RunOptions& options) {
  std::vector<std::string> all;
  for (const ConfigKey& key : config_keys()) all.push_back(key.binding.print(options).value_or(""));
  return all;
}

TEST(ConfigSchema, HasExactlyTheKeysOfTheContractWithTheirDefaults) {
  std::vector<std::string> expected, found;
  for (const Expected& key : kExpected) expected.push_back(std::string(key.name) + " = " + key.normally);
  const auto defaults = printed(train::RunOptions{});
  for (std::size_t i = 0; i < defaults.size(); ++i) {
    found.push_back(config_keys()[i].section + "." + config_keys()[i].key + " = " + defaults[i]);
  }

  EXPECT_EQ(found, expected);
}

TEST(ConfigSchema, EveryKeyChangesItsOwnOptionAndNoOther) {
  ASSERT_EQ(config_keys().size(), kExpected.size());
  for (std::size_t i = 0; i < kExpected.size(); ++i) {
    if (kExpected[i].other == nullptr) continue;
    auto expected = printed(train::RunOptions{});
    expected[i] = kExpected[i].other;

    train::RunOptions options;
    const bool taken = config_keys()[i].binding.read(read_toml_value(kExpected[i].other), options);

    EXPECT_TRUE(taken) << kExpected[i].name;
    EXPECT_EQ(printed(options), expected) << kExpected[i].name;
    EXPECT_NE(options, train::RunOptions{}) << kExpected[i].name;
  }
}

TEST(ConfigSchema, KeysThatTheModelDecidesOn_HaveAFallbackOfTheirType) {
  for (const ConfigKey& key : config_keys()) {
    const bool model_decides = !key.binding.print(train::RunOptions{}).has_value();
    EXPECT_EQ(model_decides, !key.fallback.empty()) << key.key;
    train::RunOptions options;
    if (model_decides) {
      EXPECT_TRUE(key.binding.read(read_toml_value(key.fallback), options)) << key.key;
    }
  }
}

TEST(ConfigSchema, EveryKeyIsExplainedInOneLine) {
  for (const ConfigKey& key : config_keys()) {
    EXPECT_FALSE(key.doc.empty()) << key.key;
    EXPECT_EQ(key.doc.find('\n'), std::string::npos) << key.key;
    EXPECT_FALSE(key.binding.expected.empty()) << key.key;
  }
}

TEST(ConfigSchema, EveryDefaultWrittenOut_IsAccepted_AlsoOfKeysThatCannotBeSetYet) {
  std::string text;
  for (const std::string& section : section_names()) {
    text += "[" + section + "]\n";
    for (const ConfigKey& key : config_keys())
      if (key.section == section)
        text += key.key + " = " + key.binding.print(train::RunOptions{}).value_or(key.fallback) + "\n";
  }

  const train::RunOptions options = run_options_of(read_toml_text(text, "defaults.toml"));

  for (const ConfigKey& key : config_keys())
    EXPECT_EQ(key.binding.print(options), key.binding.print(train::RunOptions{}).value_or(key.fallback)) << key.key;
}

}  // namespace
}  // namespace spillway::app
