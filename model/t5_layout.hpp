// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/shard_map.hpp"
#include "model/t5_config.hpp"

namespace spillway::model {

/// What a tensor needs besides its place: how T5 initialises it and whether AdamW decays it.
struct TensorTraits {
  float deviation = 0.0F;  // of the normal distribution it starts from; 0: it starts as ones (norms)
  bool decay = true;       // weight decay leaves out norms and relative biases (current transformers)
};

/// Where the matrices of a block lie in its unit's flat buffer, in elements. Matrices that one product reads are adjacent:
/// qkv (3 inner, d_model), cross_kv (2 inner, d_model), wi (ff_in, d_model).
struct BlockOffsets {
  std::int64_t qkv = 0, o = 0;                          // self-attention
  std::int64_t cross_q = 0, cross_kv = 0, cross_o = 0;  // decoder only
  std::int64_t wi = 0, wo = 0;
};

/// Where the persistent unit's tensors lie.
struct PersistentOffsets {
  std::int64_t shared = 0, encoder_bias = 0, decoder_bias = 0;
  std::vector<std::int64_t> encoder_norms;  // two a block, then the final one
  std::vector<std::int64_t> decoder_norms;  // three a block, then the final one
};

/// Every parameter of a T5 with its Hugging Face name, shape, unit and place. Units in forward order: the persistent unit (0), the
/// encoder blocks, the decoder blocks, the head if it is untied.
class T5Layout {
 public:
  explicit T5Layout(const T5Config& config);

  [[nodiscard]] const std::vector<TensorSpec>& tensors() const noexcept { return tensors_; }
  /// Parallel to tensors().
  [[nodiscard]] const std::vector<TensorTraits>& traits() const noexcept { return traits_; }
  [[nodiscard]] int units() const noexcept { return static_cast<int>(unit_names_.size()); }
  /// "persistent", "encoder.0", "decoder.3", "head": for logs and errors.
  [[nodiscard]] const std::string& unit_name(int unit) const { return unit_names_.at(static_cast<std::size_t>(unit)); }
  [[nodiscard]] int encoder_unit(std::int64_t block) const { return static_cast<int>(1 + block); }
  [[nodiscard]] int decoder_unit(std::int64_t block) const { return static_cast<int>(1 + encoder_blocks_ + block); }
  /// The unit that holds the head's weight: the last one, or the persistent unit if it is tied.
  [[nodiscard]] int head_unit() const noexcept { return head_unit_; }
  [[nodiscard]] const BlockOffsets& encoder_block() const noexcept { return encoder_; }
  [[nodiscard]] const BlockOffsets& decoder_block() const noexcept { return decoder_; }
  [[nodiscard]] const PersistentOffsets& persistent() const noexcept { return persistent_; }

 private:
  std::vector<TensorSpec> tensors_;
  std::vector<TensorTraits> traits_;
  std::vector<std::string> unit_names_;
  std::int64_t encoder_blocks_ = 0;
  int head_unit_ = 0;
  BlockOffsets encoder_, decoder_;
  PersistentOffsets persistent_;
};

}  // namespace spillway::model
