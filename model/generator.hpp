// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
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

/// The small tensors of decoding: the host writes them before the first token and reads the result after the last.
struct GenerationLists {
  BeamMemory beams;
  TensorView row_sequence, row_number, row_zero;  // i32 (R), row_number (R + 1)
  TensorView all;                                 // as bytes
};

/// Everything that decoding keeps, for R = items · beams rows and `capacity` tokens. Caches and activations have the weights' dtype;
/// rstd, logits and scores are f32.
struct GenerationMemory {
  std::vector<TensorView> cache_k, cache_v;  // each decoder block: (R, capacity, inner)
  std::vector<TensorView> cross_kv;          // each decoder block: (source rows, 2 inner)
  TensorView hidden, normed, rstd, qkv, attended, branch, u, act, logits;
  GenerationLists lists;       // where the ops read and write them
  GenerationLists host_lists;  // where the host does
};

/// \param carver  of device memory
/// \param pinned  of pinned host memory
[[nodiscard]] GenerationMemory carve_generation(Carver& carver, Carver& pinned, const T5Config& config, DType dtype,
                                                const GenerationLimits& limits);

/// Decodes batches of sources by greedy or beam search with a key-value cache. The host only starts the work of each token, looks from
/// time to time whether there is anything left to do, and reads the hypotheses at the end.
class Generator {
 public:
  /// \param device  that the memory, and later the queue, are of
  /// \param t5      reads the same parameters; its residual store has inference memory
  /// \param weights_stay  a unit's weights are at the same place whenever it is acquired, and all may be at once: a token's work is
  ///                      then recorded and replayed
  Generator(Device& device, const T5Config& config, const T5Layout& layout, T5Model& t5, kernels::ModelOps& ops,
            kernels::GenerationOps& generation_ops, ParameterSource& parameters, const GenerationMemory& memory,
            bool weights_stay);

  /// The best hypotheses of every sequence of batch.source, best first; batch.target is not looked at. A rank without items takes part
  /// with an empty batch. Blocks until they are there.
  /// \param all_done  given whether this rank's items are finished, says whether every rank's are: ranks that share sharded weights
  ///                  decode in step. Never true for a rank whose items are not
  /// \throws DataError if logits are NaN or infinite
  [[nodiscard]] std::vector<std::vector<Hypothesis>> generate(Queue& queue, const MicroBatch& batch,
                                                              const GenerationOptions& options,
                                                              const std::function<bool(bool)>& all_done);

 private:
  /// All that the work of a token depends on besides what is in memory.
  struct TokenWork {
    kernels::PackedSequences keys;
    std::int64_t rows = 0;
    BeamMemory beams;
    GenerationOptions options;
  };
  struct Recorded {
    TokenWork work;
    std::unique_ptr<Recording> recording;  // null: it has only been run yet
  };
  void start(Queue& queue, std::int64_t items, const GenerationOptions& options);
  void encode(Queue& queue, const MicroBatch& batch);
  void run_token(Queue& queue, const TokenWork& work);
  [[nodiscard]] bool is_known(const TokenWork& work) const;
  void decode_one(Queue& queue, const TokenWork& work);
  void decode_block(Queue& queue, const TokenWork& work, std::int64_t block);
  void norm(Queue& queue, std::int64_t rows, const Place& weight_place, bool add_branch);
  void choose(Queue& queue, const TokenWork& work);
  template <typename Visit>
  void each_decoder_unit(const Visit& visit);
  [[nodiscard]] kernels::PackedSequences single_rows(std::int64_t rows) const;
  [[nodiscard]] ConstTensorView weight(const Place& place, Shape shape);
  void copy(Queue& queue, const TensorView& to, const TensorView& from);

  Device& device_;
  const T5Config& config_;
  const T5Layout& layout_;
  T5Model& t5_;
  kernels::ModelOps& ops_;
  kernels::GenerationOps& generation_ops_;
  ParameterSource& parameters_;
  GenerationMemory memory_;
  bool weights_stay_;
  Recorded recorded_;
};

}  // namespace spillway::model
