// SPDX-License-Identifier: Apache-2.0
#include "train/trainee.hpp"

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include <fmt/format.h>
#include <xxhash.h>

#include "core/log.hpp"
#include "train/schedule.hpp"
#include "train/weights.hpp"

namespace spillway::test {
namespace {

constexpr std::array kWords = {"sea", "mountain", "a", "river", "of", "stone", "night", "evergreen", "he", "goes"};

void write_pairs(const std::string& base, int pairs, int words) {
  std::ofstream source(base + ".source");
  std::ofstream target(base + ".target");
  unsigned state = 7;
  const auto word = [&state] {
    state = state * 1664525U + 1013904223U;
    return kWords[(state >> 16) % kWords.size()];
  };
  for (int pair = 0; pair < pairs; ++pair) {
    source << "pair";
    target << "pereche";
    for (int i = 0; i < 1 + pair % words; ++i) source << ' ' << word();
    for (int i = 0; i < 1 + (pair * 5) % words; ++i) target << ' ' << word();
    source << '\n';
    target << '\n';
  }
}

void append(std::vector<std::byte>& bytes, std::span<const float> values) {
  const auto more = std::as_bytes(values);
  bytes.insert(bytes.end(), more.begin(), more.end());
}

}  // namespace

void write_training_folder(const std::string& folder, const ModelSizes& sizes, int pairs, int words) {
  std::filesystem::create_directories(folder + "/model");
  std::filesystem::create_directories(folder + "/nvme");
  std::ofstream(folder + "/model/config.json") << fmt::format(
      R"({{"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "d_model": {}, "d_kv": {}, "num_heads": {},
           "d_ff": {}, "num_layers": {}, "num_decoder_layers": {}, "vocab_size": 384, "dropout_rate": 0.1,
           "feed_forward_proj": "{}", "tie_word_embeddings": {}, "layer_norm_epsilon": 1e-06,
           "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
           "decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0, "is_encoder_decoder": true}})",
      sizes.d_model, sizes.d_kv, sizes.heads, sizes.d_ff, sizes.layers, sizes.layers,
      sizes.gated ? "gated-gelu" : "relu", !sizes.gated);
  write_pairs(folder + "/pairs", pairs, words);
}

train::RunOptions training_options(const std::string& folder) {
  train::RunOptions options;
  options.model = {.path = folder + "/model",
                   .init = train::ModelInit::random,
                   .tokenizer = "bytes",
                   .dropout_rate = 0.1,
                   .embedding_std = 0.1};
  options.data.train = {folder + "/pairs"};
  options.train.output_dir = folder + "/out";
  options.train.per_device_train_batch_size = 2;
  options.train.global_batch_size = 8;
  options.train.max_steps = 10;
  options.train.max_grad_norm = 0.1;
  options.train.logging_steps = 1;
  options.optimizer.learning_rate = 2e-3;
  options.optimizer.weight_decay = 0.01;
  options.offload.placement = train::TierChoice::device;
  options.offload.nvme_dirs = {folder + "/nvme"};
  options.offload.extent_size = 4096;
  options.checkpoint.save_steps = 0;
  options.checkpoint.save_final = false;
  options.checkpoint.export_model = false;
  return options;
}

Trainee::Trainee(const train::RunOptions& options, comm::Communicator& communicator, train::EngineSwitches switches,
                 const std::function<void(train::Job&)>& replan, std::optional<comm::NodeLayout> nodes, Device* gpu)
    : communicator_(communicator), runtime_{.device = gpu != nullptr ? *gpu : *device_, .communicator = communicator} {
  log::quiet();
  runtime_.nodes = nodes.value_or(comm::NodeLayout::filled(1, communicator.size()));
  job_ = train::prepare_job(options, train::Purpose::train, runtime_);
  if (replan) replan(*job_);
  engine_ = train::make_engine(*job_, runtime_, std::move(switches));
  sampler_ = std::make_unique<data::BatchSampler>(job_->train_examples->size(), job_->global_batch_size,
                                                  options.train.seed, options.data.shuffle);
  train::load_weights(job_->source, *job_->layout, options.train.seed, options.model.embedding_std, job_->zero,
                      engine_->state());
}

train::StepResult Trainee::step(std::optional<double> loss_scale) {
  const data::BatchSampler::GlobalBatch batch = sampler_->next(cursor_);
  std::int64_t tokens = 0;
  for (const std::int64_t sample : batch.samples)
    tokens += static_cast<std::int64_t>(job_->train_examples->target(sample).size());
  const double learning_rate = train::learning_rate_at(job_->options.schedule, job_->options.optimizer.learning_rate,
                                                       optimizer_step_, job_->total_steps);
  train::StepResult result =
      engine_->step(batch.samples, tokens, step_, learning_rate, optimizer_step_ + 1, loss_scale);
  const std::array<double, 1> mine = {result.loss_sum};
  losses_.push_back(comm::ordered_sum(communicator_, mine)[0] / static_cast<double>(tokens));
  gradient_norms_.push_back(result.grad_norm);
  cursor_ = batch.next;
  ++step_;
  if (!result.overflow) ++optimizer_step_;
  return result;
}

void Trainee::run(int steps) {
  for (int i = 0; i < steps; ++i) (void)step();
}

StateHashes Trainee::hashes() {
  engine_->finish_update();
  const train::Zero& zero = job_->zero;
  std::map<std::string, std::vector<std::byte>> whole;
  for (int unit = 0; unit < zero.map->units(); ++unit) {
    std::map<std::string, std::vector<std::byte>> mine;
    std::vector<std::string> kinds = {"master"};
    if (!job_->adafactor) kinds.insert(kinds.end(), {"exp_avg", "exp_avg_sq"});
    for (const std::string& kind : kinds) {
      std::vector<float> values(static_cast<std::size_t>(zero.owned(unit).size()));
      engine_->state().read(kind, unit, {0, zero.owned(unit).size()}, values);
      append(mine[kind], values);
    }
    for (const auto& [kind, bytes] : mine) {
      std::vector<std::byte>& all = whole[kind];
      if (!zero.sharded()) {
        all.insert(all.end(), bytes.begin(), bytes.end());
        continue;
      }
      // The shards of this rank's own copy, in the order of their places.
      const auto shards = communicator_.exchange(bytes);
      for (int place = 0; place < zero.shards; ++place)
        for (std::size_t rank = 0; rank < shards.size(); ++rank)
          if (zero.pieces[rank] == place * zero.copies() + zero.copy)
            all.insert(all.end(), shards[rank].begin(), shards[rank].end());
    }
  }
  if (job_->adafactor)
    for (const std::string& kind : job_->adafactor->kinds()) append(whole[kind], job_->adafactor->values(kind));
  StateHashes hashes;
  for (const auto& [kind, bytes] : whole) hashes[kind] = XXH3_64bits(bytes.data(), bytes.size());
  return hashes;
}

}  // namespace spillway::test
