// SPDX-License-Identifier: Apache-2.0
#include "app/missing_features.hpp"

#include <gmock/gmock.h>

#include "app/expect_config_error.hpp"
#include "app/overrides.hpp"
#include "app/run_config.hpp"

namespace spillway::app {
namespace {

void set(const std::string& text) { (void)run_options_of(settings_from_arguments({text}, "--set")); }

class Refused : public ::testing::TestWithParam<const char*> {};

TEST_P(Refused, WhenSet) {
  EXPECT_THAT(config_error_of([] { set(GetParam()); }), ::testing::HasSubstr("which this version does not have yet"));
}

INSTANTIATE_TEST_SUITE_P(
    MissingFeatures, Refused,
    ::testing::Values("data.train=a.tsv", "data.val=[\"a\", \"b\"]", "data.test=[]", "train.device=cuda",
                      "train.precision=bf16", "train.precision=fp16", "train.per_device_train_batch_size=auto",
                      "train.gradient_checkpointing=host", "train.freeze_embeds=true", "train.freeze_encoder=true",
                      "train.tf32=true", "train.collective_timeout=5m", "train.consistency_check_steps=1",
                      "optimizer.name=adafactor", "optimizer.state_format=bf16", "optimizer.state_format=int8",
                      "optimizer.scale_parameter=true", "optimizer.relative_step=true", "optimizer.warmup_init=true",
                      "optimizer.clip_threshold=1.0"));

INSTANTIATE_TEST_SUITE_P(
    MoreMissingFeatures, Refused,
    ::testing::Values("loss_scale.static=1.0", "loss_scale.initial_scale_power=16", "loss_scale.window=1000",
                      "loss_scale.hysteresis=2", "loss_scale.min=1.0", "zero.stage=1", "zero.stage=2",
                      "zero.shard_group=node", "offload.weight=host", "offload.weight=nvme", "offload.master=host",
                      "offload.master=nvme", "offload.optimizer_on=gpu", "offload.optimizer_on=split",
                      "checkpoint.save_steps=epoch", "checkpoint.load_best_model_at_end=true",
                      "checkpoint.export_dtype=bf16", "checkpoint.export_dtype=fp16", "checkpoint.async=true",
                      "eval.task=translation_en_to_ro", "eval.eval_steps=epoch", "eval.min_length=1",
                      "eval.no_repeat_ngram_size=3", "eval.repetition_penalty=1.2", "eval.num_return_sequences=2",
                      "eval.metric=rouge", "report.html=true", "report.trace=true", "report.trace_first=1",
                      "report.trace_last=2", "report.tensorboard=true"));

TEST(Accepted, WhatSwitchesAMissingFeatureOff) {
  for (const char* text :
       {"train.freeze_embeds=false", "train.tf32=false", "train.consistency_check_steps=0",
        "optimizer.relative_step=false", "checkpoint.load_best_model_at_end=false", "checkpoint.async=false",
        "eval.task=", "eval.min_length=0", "eval.no_repeat_ngram_size=0", "eval.repetition_penalty=1",
        "eval.num_return_sequences=1", "report.html=false", "report.trace=false", "report.tensorboard=false"}) {
    EXPECT_NO_THROW(set(text)) << text;
  }
}

TEST(MissingFeature, IsSaidInTheMessage) {
  EXPECT_EQ(config_error_of([] { set("optimizer.name=adafactor"); }),
            "--set: optimizer.name = \"adafactor\" asks for Adafactor, which this version does not have yet");
  EXPECT_EQ(config_error_of([] { set("data.train=a.tsv"); }),
            "--set: data.train = \"a.tsv\" asks for data in a .tsv file, which this version does not have yet");
}

}  // namespace
}  // namespace spillway::app
