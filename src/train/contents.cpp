// SPDX-License-Identifier: Apache-2.0
#include "train/contents.hpp"

#include <span>
#include <vector>

#include <fmt/format.h>

#include "checkpoint/files.hpp"
#include "checkpoint/hash.hpp"

namespace spillway::train {
namespace {

std::string tokenizer_text(const std::string& tokenizer) {
  if (tokenizer.empty() || tokenizer == "bytes") return tokenizer;
  const std::string content = checkpoint::read_text(tokenizer);
  return "file of hash " + checkpoint::hash_text(checkpoint::hash_of(std::as_bytes(std::span(content))));
}

std::string tokens_text(const data::Examples& examples) {
  std::vector<std::uint64_t> hashes;
  for (std::int64_t i = 0; i < examples.size(); ++i)
    for (const auto ids : {examples.source(i), examples.target(i)})
      hashes.push_back(checkpoint::hash_of(std::as_bytes(ids)));
  return checkpoint::hash_text(checkpoint::hash_of_hashes(hashes));
}

}  // namespace

ContentRecord contents_of(const Job& job) {
  const model::T5Config& c = job.source.config;
  ContentRecord contents = {
      {"model: vocab_size", std::to_string(c.vocab_size)},
      {"model: d_model", std::to_string(c.d_model)},
      {"model: d_kv", std::to_string(c.d_kv)},
      {"model: d_ff", std::to_string(c.d_ff)},
      {"model: num_heads", std::to_string(c.num_heads)},
      {"model: num_layers", std::to_string(c.num_layers)},
      {"model: num_decoder_layers", std::to_string(c.num_decoder_layers)},
      {"model: relative_attention_num_buckets", std::to_string(c.relative_attention_num_buckets)},
      {"model: relative_attention_max_distance", std::to_string(c.relative_attention_max_distance)},
      {"model: dropout_rate", fmt::format("{}", job.pass.dropout)},
      {"model: layer_norm_epsilon", fmt::format("{}", c.layer_norm_epsilon)},
      {"model: activation", (c.gated ? "gated " : "") + model::activation_name(c.activation)},
      {"model: lm_head of its own", c.untied_head ? "yes" : "no"},
      {"model: logits scaled by d_model^-0.5", c.scale_logits ? "yes" : "no"},
      {"model: pad_token_id", std::to_string(c.pad_token_id)},
      {"model: eos_token_id", std::to_string(c.eos_token_id)},
      {"model: decoder_start_token_id", std::to_string(c.decoder_start_token_id)},
      {"tokenizer", tokenizer_text(job.source.tokenizer)}};
  if (job.train_examples) {
    contents["data.train: pairs"] = std::to_string(job.train_examples->size());
    contents["data.train: hash of all tokens"] = tokens_text(*job.train_examples);
  }
  return contents;
}

std::string differences(const ContentRecord& one, const std::string& one_name, const ContentRecord& other,
                        const std::string& other_name) {
  std::string text;
  for (const auto& [name, value] : one) {
    const auto found = other.find(name);
    if (found != other.end() && found->second != value)
      text += fmt::format("\n  {}: {} has {}, {} {}", name, one_name, value, other_name, found->second);
  }
  return text;
}

}  // namespace spillway::train
