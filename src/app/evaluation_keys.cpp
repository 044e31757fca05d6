// SPDX-License-Identifier: Apache-2.0
#include "app/key_bindings.hpp"
#include "app/schema_sections.hpp"
#include "app/special_bindings.hpp"

namespace spillway::app {
namespace {

using namespace train;
using Run = RunOptions;

constexpr bool kNotYet = false;

ConfigValue word(const char* text) { return {std::string(text)}; }

}  // namespace

std::vector<ConfigKey> evaluation_keys() {
  return {
      {.section = "eval",
       .key = "task",
       .binding = text(&Run::eval, &EvalOptions::task),
       .doc = "an entry of the model's task_specific_params: what it says goes before generation_config.json, and its "
              "prefix "
              "is data.source_prefix unless that is set"},
      {.section = "eval",
       .key = "eval_steps",
       .binding = interval(&Run::eval, &EvalOptions::eval_steps),
       .doc = "optimizer steps; 0: at the end only; \"epoch\": at each epoch's end"},
      {.section = "eval",
       .key = "per_device_eval_batch_size",
       .binding = integer(&Run::eval, &EvalOptions::per_device_eval_batch_size, 1),
       .doc = "samples that one rank decodes at a time"},
      {.section = "eval",
       .key = "predict_with_generate",
       .binding = boolean(&Run::eval, &EvalOptions::predict_with_generate),
       .doc = "false: loss only"},
      {.section = "eval",
       .key = "num_beams",
       .binding = integer(&Run::eval, &EvalOptions::num_beams, 1, EvalOptions::kMostBeams),
       .doc = "1: greedy",
       .fallback = toml_text({EvalOptions::kNumBeams})},
      {.section = "eval",
       .key = "max_length",
       .binding = integer(&Run::eval, &EvalOptions::max_length, 2, EvalOptions::kMostTokens),
       .doc = "tokens, the start token included",
       .fallback = toml_text({EvalOptions::kMaxLength})},
      {.section = "eval",
       .key = "min_length",
       .binding = integer(&Run::eval, &EvalOptions::min_length, 0, EvalOptions::kMostTokens),
       .doc = "tokens, the start token included; </s> is impossible before",
       .fallback = toml_text({EvalOptions::kMinLength})},
      {.section = "eval",
       .key = "length_penalty",
       .binding = number(&Run::eval, &EvalOptions::length_penalty, {}),
       .doc = "exponent of the length that a beam's score is divided by",
       .fallback = toml_text({EvalOptions::kLengthPenalty})},
      {.section = "eval",
       .key = "early_stopping",
       .binding =
           choice(&Run::eval, &EvalOptions::early_stopping,
                  {{{true}, EarlyStopping::yes}, {{false}, EarlyStopping::no}, {word("never"), EarlyStopping::never}}),
       .doc = "true, false or \"never\": when a beam search is done",
       .fallback = toml_text({true})},
      {.section = "eval",
       .key = "no_repeat_ngram_size",
       .binding = integer(&Run::eval, &EvalOptions::no_repeat_ngram_size, 0, EvalOptions::kMostTokens),
       .doc = "tokens: no sequence of that many comes twice; 0: it may",
       .fallback = toml_text({EvalOptions::kNoRepeatNgramSize})},
      {.section = "eval",
       .key = "repetition_penalty",
       .binding = number(&Run::eval, &EvalOptions::repetition_penalty, {.min = 0, .min_is_outside = true}),
       .doc = "1: none; above: tokens that came already are less likely",
       .fallback = toml_text({EvalOptions::kRepetitionPenalty})},
      {.section = "eval",
       .key = "num_return_sequences",
       .binding = integer(&Run::eval, &EvalOptions::num_return_sequences, 1, EvalOptions::kMostBeams),
       .doc = "generate only: lines for each source, at most num_beams",
       .fallback = toml_text({EvalOptions::kNumReturnSequences})},
      {.section = "eval",
       .key = "metric",
       .binding = choice(&Run::eval, &EvalOptions::metric,
                         {{word("bleu"), EvalMetric::bleu}, {word("rouge"), EvalMetric::rouge}}),
       .doc = "of generated text: \"bleu\", or \"rouge\" for summaries (the best model has the highest rougeL)"},
      {.section = "report",
       .key = "html",
       .binding = boolean(&Run::report, &ReportOptions::html),
       .doc = "report.html",
       .available = kNotYet},
      {.section = "report",
       .key = "trace",
       .binding = boolean(&Run::report, &ReportOptions::trace),
       .doc = "trace.json in train.output_dir: a timeline of some steps"},
      {.section = "report",
       .key = "trace_first",
       .binding = integer(&Run::report, &ReportOptions::trace_first, 0),
       .doc = "the first step of the timeline, counted as in metrics.jsonl"},
      {.section = "report",
       .key = "trace_last",
       .binding = integer(&Run::report, &ReportOptions::trace_last, 0),
       .doc = "its last step"},
      {.section = "report",
       .key = "tensorboard",
       .binding = boolean(&Run::report, &ReportOptions::tensorboard),
       .doc = "event files for TensorBoard in runs in train.output_dir"},
  };
}

}  // namespace spillway::app
