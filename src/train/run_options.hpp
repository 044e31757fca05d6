// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace spillway::train {

// What a run is asked to do: one struct for each section of the configuration file, one member for each key, with that
// key's name and default. docs/configuration.md says more about each key. Values that this version refuses have no
// enumerator here: the lists of keys in app name them.

enum class ModelInit { pretrained, random };

/// How often something happens: every so many optimizer steps, or at each epoch's end.
struct StepInterval {
  constexpr StepInterval(std::int64_t every) : steps(every) {}  // NOLINT: a number of steps is one
  static constexpr StepInterval epoch() {
    StepInterval interval(0);
    interval.every_epoch = true;
    return interval;
  }
  std::int64_t steps;  // 0: never
  bool every_epoch = false;
  bool operator==(const StepInterval&) const = default;
};

/// [model]: what is trained.
struct ModelOptions {
  /// Hugging Face directory, or a preset's name ("t5-small").
  std::string path;
  ModelInit init = ModelInit::pretrained;
  /// A SentencePiece model file, "bytes", or "": the one in `path`.
  std::string tokenizer;
  /// Probability; below 0: the model's own.
  double dropout_rate = -1.0;
  /// Standard deviation of the embeddings, random initialisation only; 0: T5's own (1.0).
  double embedding_std = 0.0;
  bool operator==(const ModelOptions&) const = default;
};

/// [data]: what it is trained and evaluated on.
struct DataOptions {
  /// Each BASE of BASE.source and BASE.target, a .jsonl or a .tsv file; read in this order. Likewise `val` and `test`.
  std::vector<std::string> train;
  std::vector<std::string> val;
  std::vector<std::string> test;
  /// Field names in jsonl; dots go inside ("translation.en").
  std::string source_key = "source";
  std::string target_key = "target";
  /// Text put in front of every source; without it that of eval.task, and without that none.
  std::optional<std::string> source_prefix;
  /// Tokens, </s> included; longer is truncated and counted.
  std::int64_t max_source_length = 128;
  std::int64_t max_target_length = 128;
  /// Samples; 0: all.
  std::int64_t max_train_samples = 0;
  std::int64_t max_eval_samples = 0;
  /// A new order each epoch, drawn from train.seed; false: the files' order.
  bool shuffle = true;
  bool operator==(const DataOptions&) const = default;
};

enum class DeviceChoice { automatic, cpu, cuda };
enum class Precision { automatic, fp32, bf16, fp16 };
enum class GradientCheckpointing { automatic, off, on, host };

/// [train]: how long, how much at a time, and where the results go.
struct TrainOptions {
  /// Directory; made when it is not there.
  std::string output_dir = "out";
  DeviceChoice device = DeviceChoice::automatic;
  Precision precision = Precision::automatic;
  /// Samples of one micro-batch of one rank; kFastestBatch: the planner's choice, for a given global_batch_size.
  std::int64_t per_device_train_batch_size = 8;
  static constexpr std::int64_t kFastestBatch = 0;
  /// Micro-batches of one rank in one optimizer step.
  std::int64_t gradient_accumulation_steps = 1;
  /// Samples of one optimizer step; 0: per_device_train_batch_size x gradient_accumulation_steps x ranks.
  std::int64_t global_batch_size = 0;
  double num_train_epochs = 3.0;
  /// Optimizer steps; above 0: instead of num_train_epochs.
  std::int64_t max_steps = 0;
  /// Norm over all gradients; 0: no clipping.
  double max_grad_norm = 1.0;
  double label_smoothing_factor = 0.0;
  GradientCheckpointing gradient_checkpointing = GradientCheckpointing::automatic;
  bool freeze_embeds = false;
  bool freeze_encoder = false;
  bool tf32 = false;
  std::uint64_t seed = 42;
  /// Optimizer steps from one line of metrics to the next.
  std::int64_t logging_steps = 10;
  std::chrono::seconds collective_timeout{300};
  /// Optimizer steps; 0: never.
  std::int64_t consistency_check_steps = 0;
  /// From the start of the program; 0: none.
  std::chrono::seconds time_limit{0};
  bool operator==(const TrainOptions&) const = default;
};

enum class OptimizerName { adamw, adafactor };
enum class StateFormat { fp32, bf16, int8 };

/// [optimizer]: AdamW in torch's form, or Hugging Face's Adafactor.
struct OptimizerOptions {
  OptimizerName name = OptimizerName::adamw;
  double learning_rate = 5e-5;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8;
  /// Leaves out layer norms and relative attention biases.
  double weight_decay = 0.0;
  StateFormat state_format = StateFormat::fp32;
  bool scale_parameter = false;
  bool relative_step = false;
  bool warmup_init = false;
  double clip_threshold = 1.0;
  bool operator==(const OptimizerOptions&) const = default;
};

enum class SchedulerType {
  linear,
  constant,
  constant_with_warmup,
  cosine,
  cosine_with_restarts,
  polynomial,
  inverse_sqrt
};

/// [schedule]: the learning rate over the steps.
struct ScheduleOptions {
  SchedulerType lr_scheduler_type = SchedulerType::linear;
  /// Optimizer steps; above 0 it goes before warmup_ratio.
  std::int64_t warmup_steps = 0;
  /// Part of all optimizer steps.
  double warmup_ratio = 0.0;
  bool operator==(const ScheduleOptions&) const = default;
};

/// [loss_scale]: fp16 only, DeepSpeed's semantics.
struct LossScaleOptions {
  /// Above 0: fixed.
  double fixed = 0.0;  // the key is `static`, a reserved word
  /// Exponent of 2.
  std::int64_t initial_scale_power = 16;
  /// Optimizer steps.
  std::int64_t window = 1000;
  std::int64_t hysteresis = 2;
  double min = 1.0;
  bool operator==(const LossScaleOptions&) const = default;
};

/// Element type of gradients: the weight's own, or fp32.
enum class GradientDType { automatic, fp32 };
enum class ShardGroup { all, node };

/// [zero]: what the ranks share.
struct ZeroOptions {
  /// 0: replicate; 1: share optimizer state; 2: and gradients; 3: and parameters.
  int stage = 3;
  /// On the wire.
  GradientDType reduce_dtype = GradientDType::automatic;
  /// At rest.
  GradientDType grad_dtype = GradientDType::automatic;
  ShardGroup shard_group = ShardGroup::all;
  bool operator==(const ZeroOptions&) const = default;
};

/// [memory]: budgets in bytes; none: what is free, of host memory less a margin.
struct MemoryOptions {
  /// Of one rank.
  std::optional<std::uint64_t> device;
  /// Of one node: pinned, pageable and page cache together.
  std::optional<std::uint64_t> host;
  /// Of one node: the directories in [offload].
  std::optional<std::uint64_t> nvme;
  bool operator==(const MemoryOptions&) const = default;
};

enum class TierChoice { automatic, device, host, nvme };
enum class OptimizerPlace { automatic, cpu, gpu, split };
enum class StoreChoice { automatic, uring, posix, memory };

/// [offload]: where optimizer state lives, and how it moves.
struct OffloadOptions {
  /// For every kind that can be offloaded and has `automatic` of its own.
  TierChoice placement = TierChoice::automatic;
  TierChoice weight = TierChoice::automatic;
  TierChoice master = TierChoice::automatic;
  TierChoice exp_avg = TierChoice::automatic;
  TierChoice exp_avg_sq = TierChoice::automatic;
  /// One for each drive; none: $SLURM_TMPDIR if set, else there is no nvme tier.
  std::vector<std::string> nvme_dirs;
  OptimizerPlace optimizer_on = OptimizerPlace::automatic;
  StoreChoice store = StoreChoice::automatic;
  /// Transfers in flight.
  int queue_depth = 32;
  /// Bytes; a multiple of 4096.
  std::uint64_t extent_size = std::uint64_t{16} << 20;
  /// Every extent read back is checked.
  bool checksum = true;
  bool operator==(const OffloadOptions&) const = default;
};

enum class ExportDType { automatic, fp32, bf16, fp16 };

/// [checkpoint]: what is saved, and what a run starts from.
struct CheckpointOptions {
  /// "": output_dir/checkpoints.
  std::string dir;
  /// Optimizer steps; 0: only at the end and on request.
  StepInterval save_steps = 500;
  /// Newest checkpoints that are kept; 0: all.
  std::int64_t save_total_limit = 2;
  /// The weights of the checkpoint that eval.metric likes best are what is exported and evaluated at the end.
  bool load_best_model_at_end = false;
  ExportDType export_dtype = ExportDType::automatic;
  /// "auto": the newest committed checkpoint in `dir`; "none"; or the path of one.
  std::string resume = "auto";
  /// Saves run beside training, as far as the plan has host memory for it.
  bool async = true;
  /// A checkpoint at the end of training.
  bool save_final = true;
  /// output_dir/model at the end of training.
  bool export_model = true;  // the key is `export`, a reserved word
  /// Resume although a key that must not change did.
  bool allow_changes = false;
  bool operator==(const CheckpointOptions&) const = default;
};

enum class EarlyStopping { no, yes, never };
enum class EvalMetric { bleu, rouge };

/// [eval]: evaluation and generation. An empty optional takes the entry of `task`, without it the model's
/// generation_config, and where that says nothing either, the constant beside it.
struct EvalOptions {
  static constexpr std::int64_t kNumBeams = 4;
  static constexpr std::int64_t kMaxLength = 128;
  static constexpr std::int64_t kMinLength = 0;
  static constexpr double kLengthPenalty = 1.0;
  static constexpr EarlyStopping kEarlyStopping = EarlyStopping::yes;
  static constexpr std::int64_t kNoRepeatNgramSize = 0;
  static constexpr double kRepetitionPenalty = 1.0;
  static constexpr std::int64_t kNumReturnSequences = 1;

  /// Far above what anyone asks for, and low enough that sizes of memory do not overflow.
  static constexpr std::int64_t kMostBeams = 10'000;
  static constexpr std::int64_t kMostTokens = std::int64_t{1} << 20;

  /// An entry of the model's task_specific_params; "": none.
  std::string task;
  /// Optimizer steps; 0: at the end only.
  StepInterval eval_steps = 0;
  /// Samples that one rank decodes at a time.
  std::int64_t per_device_eval_batch_size = 16;
  /// false: loss only.
  bool predict_with_generate = true;
  std::optional<std::int64_t> num_beams;
  /// Tokens, the start token included; likewise `min_length`.
  std::optional<std::int64_t> max_length;
  std::optional<std::int64_t> min_length;
  /// Exponent of the length that a beam's score is divided by.
  std::optional<double> length_penalty;
  std::optional<EarlyStopping> early_stopping;
  std::optional<std::int64_t> no_repeat_ngram_size;
  std::optional<double> repetition_penalty;
  /// Generation only.
  std::optional<std::int64_t> num_return_sequences;
  EvalMetric metric = EvalMetric::bleu;
  bool operator==(const EvalOptions&) const = default;
};

/// [report]: what is written for people besides the log.
struct ReportOptions {
  bool html = true;
  bool trace = false;
  /// Optimizer steps from 1 as in metrics.jsonl, both included.
  std::int64_t trace_first = 10;
  std::int64_t trace_last = 12;
  bool tensorboard = false;
  bool operator==(const ReportOptions&) const = default;
};

/// Everything that a configuration file says.
struct RunOptions {
  ModelOptions model;
  DataOptions data;
  TrainOptions train;
  OptimizerOptions optimizer;
  ScheduleOptions schedule;
  LossScaleOptions loss_scale;
  ZeroOptions zero;
  MemoryOptions memory;
  OffloadOptions offload;
  CheckpointOptions checkpoint;
  EvalOptions eval;
  ReportOptions report;
  /// Where checkpoints are.
  [[nodiscard]] std::string checkpoint_dir() const {
    return checkpoint.dir.empty() ? train.output_dir + "/checkpoints" : checkpoint.dir;
  }
  bool operator==(const RunOptions&) const = default;
};

}  // namespace spillway::train
