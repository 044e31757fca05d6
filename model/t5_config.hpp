// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/model_ops.hpp"

namespace spillway::model {

/// The shape and constants of a T5, mT5, umT5 or ByT5, as config.json has them (transformers 4 and 5 styles).
struct T5Config {
  std::string model_type = "t5";  // t5 (ByT5 too), mt5 or umt5
  std::int64_t vocab_size = 32128;
  std::int64_t d_model = 512;
  std::int64_t d_kv = 64;  // size of a head; num_heads * d_kv need not be d_model
  std::int64_t d_ff = 2048;
  std::int64_t num_heads = 8;
  std::int64_t num_layers = 6;  // encoder blocks
  std::int64_t num_decoder_layers = 6;
  std::int64_t relative_attention_num_buckets = 32;
  std::int64_t relative_attention_max_distance = 128;
  double dropout_rate = 0.1;
  double layer_norm_epsilon = 1e-6;
  double initializer_factor = 1.0;
  kernels::ActivationKind activation = kernels::ActivationKind::relu;
  bool gated = false;  // wi_0 and wi_1 instead of wi
  bool bias_in_every_block =
      false;                 // umT5: each block has relative biases of its own, not the first of its stack alone
  bool untied_head = false;  // lm_head.weight is a tensor of its own
  bool scale_logits = true;  // logits = d_model^-0.5 · h · headᵀ
  std::int32_t pad_token_id = 0;
  std::int32_t eos_token_id = 1;
  std::int32_t decoder_start_token_id = 0;
  std::string json;  // the text it was read from; the export keeps its other keys

  /// Width of the queries, keys and values of all heads.
  [[nodiscard]] std::int64_t inner() const noexcept { return num_heads * d_kv; }
  /// Width of the feed-forward product before the activation: d_ff, twice that if gated.
  [[nodiscard]] std::int64_t ff_in() const noexcept { return gated ? 2 * d_ff : d_ff; }
};

/// The name of an activation in config.json: of several for one function that which ACT2FN lists first.
[[nodiscard]] std::string activation_name(kernels::ActivationKind kind);

/// \param text    of a config.json
/// \param origin  file name for messages
/// \throws DataError naming the key, what was expected and found; for model types and activations that are not supported
[[nodiscard]] T5Config parse_t5_config(const std::string& text, const std::string& origin);

/// config.json for the export: what was read, with the keys that the weights decide brought up to date.
/// \param dtype  of the exported weights
[[nodiscard]] std::string export_config_json(const T5Config& config, DType dtype);

}  // namespace spillway::model
