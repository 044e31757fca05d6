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
  int stream = 0;          // of its random initialisation: its number where nothing is frozen
};

/// Where the matrices of a block lie in its unit's flat buffer, in elements. Matrices that one product reads are adjacent:
/// qkv (3 inner, d_model), cross_kv (2 inner, d_model), wi (ff_in, d_model).
struct BlockOffsets {
  std::int64_t qkv = 0, o = 0;                          // self-attention
  std::int64_t cross_q = 0, cross_kv = 0, cross_o = 0;  // decoder only
  std::int64_t wi = 0, wo = 0;
};

/// What is not trained. transformers' encoder holds the embeddings too, so freezing it freezes them, and with them a tied head.
struct Freezing {
  bool embeddings = false;  // shared.weight; an untied head stays trainable
  bool encoder = false;     // all of the encoder, and shared.weight
};

/// Where a tensor starts.
struct Place {
  int unit = 0;
  std::int64_t offset = 0;  // elements from the start of the unit's flat buffer
  bool operator==(const Place&) const = default;
};

/// Where the tensors of the persistent units lie.
struct PersistentPlaces {
  Place shared;
  std::vector<Place> encoder_biases, decoder_biases;  // one a block: the same place for all blocks that share one
  std::vector<Place> encoder_norms;                   // two a block, then the final one
  std::vector<Place> decoder_norms;                   // three a block, then the final one
};

/// Every parameter of a T5 with its Hugging Face name, shape, unit and place. Units in forward order: the persistent unit (0), the
/// encoder blocks, the decoder blocks, the head if it is untied. What is frozen lies in units of its own: whole blocks, and for
/// embeddings, norms and biases a second persistent unit (1), which is there only then.
class T5Layout {
 public:
  explicit T5Layout(const T5Config& config, const Freezing& freezing = {});

  /// By unit, then offset, as a ShardMap has them.
  [[nodiscard]] const std::vector<TensorSpec>& tensors() const noexcept { return tensors_; }
  /// Parallel to tensors().
  [[nodiscard]] const std::vector<TensorTraits>& traits() const noexcept { return traits_; }
  [[nodiscard]] int units() const noexcept { return static_cast<int>(unit_names_.size()); }
  /// "persistent", "encoder.0", "decoder.3", "head": for logs and errors.
  [[nodiscard]] const std::string& unit_name(int unit) const { return unit_names_.at(static_cast<std::size_t>(unit)); }
  [[nodiscard]] int encoder_unit(std::int64_t block) const { return static_cast<int>(persistent_units_ + block); }
  [[nodiscard]] int decoder_unit(std::int64_t block) const {
    return static_cast<int>(persistent_units_ + encoder_blocks_ + block);
  }
  /// Its weights are held for the whole step: embeddings, norms and biases.
  [[nodiscard]] bool persistent(int unit) const noexcept { return unit < persistent_units_; }
  /// False: the unit is frozen and has neither gradients nor optimizer state. Unit 0 never is.
  [[nodiscard]] bool trainable(int unit) const { return trainable_.at(static_cast<std::size_t>(unit)); }
  /// A backward pass writes each tensor of the unit's gradient with one product and can overwrite what was there: true for blocks.
  /// What stages share and what is made piece by piece (embeddings, norms, biases, the head) is added to.
  [[nodiscard]] bool written_once(int unit) const noexcept { return !persistent(unit) && unit != head_.unit; }
  /// Where the head's weight starts: in the last unit, or at shared.weight if it is tied.
  [[nodiscard]] const Place& head() const noexcept { return head_; }
  [[nodiscard]] const BlockOffsets& encoder_block() const noexcept { return encoder_; }
  [[nodiscard]] const BlockOffsets& decoder_block() const noexcept { return decoder_; }
  [[nodiscard]] const PersistentPlaces& places() const noexcept { return places_; }

 private:
  void sort_by_place();

  std::vector<TensorSpec> tensors_;
  std::vector<TensorTraits> traits_;
  std::vector<std::string> unit_names_;
  std::vector<bool> trainable_;
  std::int64_t encoder_blocks_ = 0;
  int persistent_units_ = 1;
  BlockOffsets encoder_, decoder_;
  PersistentPlaces places_;
  Place head_;
};

}  // namespace spillway::model
