// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/common.hpp"

namespace spillway::model {

/// The largest micro-batch that memory is set aside for, in rows (tokens) and sequences.
struct BatchLimits {
  std::int64_t sequences = 0;
  std::int64_t source_rows = 0;
  std::int64_t target_rows = 0;
};

/// Samples that run together, packed end to end. Decoder row i of a sequence reads decoder_ids[i] (the labels shifted right, the start
/// token first) and is scored against labels[i].
struct MicroBatch {
  int slot = 0;  // its number in its group: names its residuals
  kernels::PackedSequences source, target;
  ConstTensorView source_ids;           // i32 (source.rows)
  ConstTensorView decoder_ids, labels;  // i32 (target.rows)
  TensorView losses;                    // f32 (target.rows): written by the head, one for each token
  float gradient_scale = 0.0F;          // 1 / target tokens of the global batch
  std::uint64_t dropout_key = 0;        // mix_key(seed, step)
  [[nodiscard]] bool empty() const noexcept { return target.rows == 0; }
};

/// How a pass runs.
struct PassOptions {
  float dropout = 0.0F;  // probability; 0 in evaluation
  float label_smoothing = 0.0F;
  /// Activation checkpointing: of blocks before this stage only the input is kept, and the backward pass runs them again.
  int first_kept_stage = 0;

  static constexpr int kRecomputeAll = std::numeric_limits<int>::max();
  [[nodiscard]] bool keeps(int stage) const noexcept { return stage >= first_kept_stage; }
};

}  // namespace spillway::model
