// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "data/examples.hpp"
#include "model/activations.hpp"
#include "model/micro_batch.hpp"

namespace spillway::train {

/// The largest micro-batch that `sequences` samples of these data can make: its longest sources and targets together.
[[nodiscard]] model::BatchLimits batch_limits(const data::Examples& examples, std::int64_t sequences);
/// Element by element the larger one.
[[nodiscard]] model::BatchLimits larger(const model::BatchLimits& a, const model::BatchLimits& b);

/// One sample of a micro-batch.
struct BatchItem {
  std::int64_t example = 0;  // index in its data set
  std::int32_t stream = 0;   // its number in the global batch: keys its dropout
};

/// Memory of one micro-batch, filled anew for every batch.
class BatchMemory {
 public:
  /// \param memory  at least bytes(limits)
  BatchMemory(const model::BatchLimits& limits, std::byte* memory);
  [[nodiscard]] static std::size_t bytes(const model::BatchLimits& limits);

  /// Packs the samples end to end in the order given.
  /// \param start_token  what the decoder reads first
  [[nodiscard]] model::MicroBatch pack(const data::Examples& examples, std::span<const BatchItem> items,
                                       std::int32_t start_token);
  /// Sources alone, for generation: targets are left empty.
  [[nodiscard]] model::MicroBatch pack_sources(std::span<const std::span<const std::int32_t>> sources);

 private:
  struct Side {
    TensorView offsets, row_sample, row_position;
  };
  static Side carve_side(model::Carver& carver, std::int64_t sequences, std::int64_t rows);
  void carve(model::Carver& carver);
  static kernels::PackedSequences sequences_of(const Side& side, std::int64_t count, std::int64_t longest);

  model::BatchLimits limits_;
  Side source_, target_;
  TensorView source_ids_, decoder_ids_, labels_, losses_;
};

/// Σ of the losses of each of the batch's samples, in fp64, in the order of its rows.
[[nodiscard]] std::vector<double> sample_losses(const model::MicroBatch& batch);

}  // namespace spillway::train
