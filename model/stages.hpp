// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "model/micro_batch.hpp"
#include "model/t5_layout.hpp"

namespace spillway::model {

/// The steps of a forward pass; the backward pass walks them in reverse.
enum class StageKind { encoder_embedding, encoder_block, encoder_output, decoder_embedding, decoder_block, head };

/// One stage. It reads its input from its own residual memory and writes its output into the next stage's.
struct Stage {
  StageKind kind = StageKind::encoder_embedding;
  std::int64_t block = 0;  // of encoder_block and decoder_block
  int unit = 0;            // whose weights it needs besides the persistent units'; 0: none
  bool backward =
      true;  // false: nothing in it or before it is trainable, so no gradient comes here and nothing is kept for one
};

/// All stages in forward order.
[[nodiscard]] std::vector<Stage> t5_stages(const T5Config& config, const T5Layout& layout);

/// Bytes that a stage keeps for one micro-batch: its input, the gradients that pass through it, and with `keep_activations` all
/// that a block's backward pass reads.
/// \param dtype  of the weights and so of the activations
[[nodiscard]] std::size_t stage_bytes(const Stage& stage, const T5Config& config, DType dtype,
                                      const BatchLimits& limits, bool training, bool keep_activations);

}  // namespace spillway::model
