// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <vector>

#include "core/device.hpp"
#include "kernels/generation_ops.hpp"
#include "model/beam_search.hpp"
#include "model/t5_model.hpp"

namespace spillway::model {

/// The largest batch that generation memory is set aside for.
struct GenerationLimits {
  std::int64_t items = 0;
  std::int64_t source_rows = 0;
  GenerationOptions options;
};

/// The small tensors that host and device exchange for every token, in one piece of memory each way.
struct GenerationLists {
  TensorView sent;                   // the tensors below, as bytes
  TensorView ancestry, token_cache;  // i32 (R, capacity); tokens are found through ancestry
  TensorView tokens, row_sequence, row_number, row_zero, row_scores;  // (R), row_number (R + 1)
  TensorView received;                                                // the tensors below, as bytes
  TensorView top_scores, top_rows, top_tokens;                        // (items, 2 beams)
};

/// Everything that decoding keeps, for R = items · beams rows and `capacity` tokens. Caches and activations have the weights' dtype;
/// rstd, logits and scores are f32.
struct GenerationMemory {
  std::vector<TensorView> cache_k, cache_v;  // each decoder block: (R, capacity, inner)
  std::vector<TensorView> cross_kv;          // each decoder block: (source rows, 2 inner)
  TensorView hidden, normed, rstd, qkv, attended, branch, u, act, logits;
  GenerationLists lists;       // where the ops read and write them
  GenerationLists host_lists;  // where the host does
  TensorView next_ancestry;    // i32 (R, capacity), the host's
};

/// \param carver  of device memory
/// \param pinned  of pinned host memory
[[nodiscard]] GenerationMemory carve_generation(Carver& carver, Carver& pinned, const T5Config& config, DType dtype,
                                                const GenerationLimits& limits);

/// Decodes batches of sources by greedy or beam search with a key-value cache.
class Generator {
 public:
  /// \param device  that the memory, and later the queue, are of
  /// \param t5      reads the same parameters; its residual store has inference memory
  Generator(Device& device, const T5Config& config, const T5Layout& layout, T5Model& t5, kernels::ModelOps& ops,
            kernels::GenerationOps& generation_ops, ParameterSource& parameters, const GenerationMemory& memory);

  /// The best hypotheses of every sequence of batch.source, best first; batch.target is not looked at. A rank without items takes part
  /// with an empty batch.
  /// \param all_done  given whether this rank's items are finished, says whether every rank's are: ranks that share sharded weights
  ///                  decode in step
  [[nodiscard]] std::vector<std::vector<Hypothesis>> generate(Queue& queue, const MicroBatch& batch,
                                                              const GenerationOptions& options,
                                                              const std::function<bool(bool)>& all_done);

 private:
  void encode(Queue& queue, const MicroBatch& batch);
  void decode_one(Queue& queue, const MicroBatch& batch, std::int64_t rows, std::int64_t position);
  void decode_block(Queue& queue, const MicroBatch& batch, std::int64_t rows, std::int64_t position,
                    std::int64_t block);
  void norm(Queue& queue, std::int64_t rows, const Place& weight_place, bool add_branch);
  [[nodiscard]] kernels::PackedSequences single_rows(std::int64_t rows) const;
  [[nodiscard]] ConstTensorView weight(const Place& place, Shape shape);
  void reorder(const BeamSearch& search, std::int64_t rows);
  void copy(Queue& queue, const TensorView& to, const TensorView& from);
  void choose(Queue& queue, BeamSearch& search, std::int64_t items, const GenerationOptions& options);

  Device& device_;
  const T5Config& config_;
  const T5Layout& layout_;
  T5Model& t5_;
  kernels::ModelOps& ops_;
  kernels::GenerationOps& generation_ops_;
  ParameterSource& parameters_;
  GenerationMemory memory_;
};

}  // namespace spillway::model
