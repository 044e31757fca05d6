// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/device.hpp"
#include "data/examples.hpp"
#include "model/activations.hpp"
#include "model/micro_batch.hpp"
#include "train/stall_clock.hpp"

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

/// Memory of one micro-batch, filled anew for every batch: where the device reads it, and where the host writes it. On the host those
/// are the same.
class BatchMemory {
 public:
  /// \param on_device  at least bytes(limits)
  /// \param on_host    of the same size, pinned; null where the device is the host
  BatchMemory(const model::BatchLimits& limits, Device& device, std::byte* on_device, std::byte* on_host);
  [[nodiscard]] static std::size_t bytes(const model::BatchLimits& limits);

  /// Packs the samples end to end in the order given, and copies them to the device in the queue's order. Blocks until the copy of
  /// the batch before is over.
  /// \param start_token  what the decoder reads first; \param stalls  told of the copy; null: nobody is
  [[nodiscard]] model::MicroBatch pack(Queue& queue, const data::Examples& examples, std::span<const BatchItem> items,
                                       std::int32_t start_token, StallClock* stalls = nullptr);
  /// Sources alone, for generation: targets are left empty.
  [[nodiscard]] model::MicroBatch pack_sources(Queue& queue, std::span<const std::span<const std::int32_t>> sources);

  /// Brings the losses that the head has written to the host, in the queue's order.
  void fetch_losses(Queue& queue);
  /// Σ of the losses of each of the batch's samples, in fp64, in the order of its rows. fetch_losses must be over.
  [[nodiscard]] std::vector<double> sample_losses() const;

 private:
  struct Side {
    TensorView offsets, row_sample, row_position;
  };
  /// The same tensors in either memory.
  struct Tables {
    Side source, target;
    TensorView source_ids, decoder_ids, labels, losses;
  };
  static Side carve_side(model::Carver& carver, std::int64_t sequences, std::int64_t rows);
  static Tables carve(model::Carver& carver, const model::BatchLimits& limits);
  static kernels::PackedSequences sequences_of(const Side& side, std::int64_t count, std::int64_t rows,
                                               std::int64_t longest);
  void fill_sources(std::span<const std::span<const std::int32_t>> sources, model::MicroBatch& batch);
  void send(Queue& queue, StallClock* stalls);

  model::BatchLimits limits_;
  Device& device_;
  Tables on_device_, on_host_;
  std::size_t sent_bytes_ = 0;  // all but the losses
  Event sent_;
  std::int64_t targets_ = 0;  // sequences of the batch
};

}  // namespace spillway::train
