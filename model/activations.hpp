// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/tensor_view.hpp"
#include "model/micro_batch.hpp"
#include "model/t5_config.hpp"

namespace spillway::model {

/// Hands out tensors from a piece of memory one after the other, each on a 64-byte boundary. Without memory it only counts, so
/// the sizes of the ledger come from the same code as the tensors.
class Carver {
 public:
  explicit Carver(std::byte* memory = nullptr) : memory_(memory) {}
  /// \throws Error (exit code 3) if the sizes overflow
  [[nodiscard]] TensorView take(Shape shape, DType dtype = DType::f32);
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::byte* memory_;
  std::size_t bytes_ = 0;
};

/// The `dtype` of the functions below is that of the weights, f32, bf16 or f16: activations and their gradients have it, but for a
/// branch, which has kernels::branch_dtype, and for what is f32 always: the residual stream and its gradient, rstd, log_sum_exp and
/// logits.
///
/// The residual stream adds up over all layers. transformers has it in bf16 with bf16, where every sublayer rounds all that came before
/// it, and in f16 in f32 from the first `wo` on, whose weight stays in fp32; what comes before that is clamped to +-64504 or 65504 where
/// it is not finite. Here it is f32 from the embedding on, and around f16 the products `o` and `wo` write f32 sums, which cannot
/// overflow: there is nothing left that a clamp would change.

/// One attention sublayer: what its backward pass reads. Nq query rows, Nk key rows.
struct AttentionActivations {
  TensorView normed, rstd;  // (Nq, d_model), (Nq)
  TensorView q;             // cross-attention: (Nq, inner); self-attention: qkv (Nq, 3 inner)
  TensorView kv;            // cross-attention: (Nk, 2 inner)
  TensorView log_sum_exp;   // (Nq, heads)
  TensorView out;           // (Nq, inner)
};

/// One feed-forward sublayer.
struct FeedForwardActivations {
  TensorView normed, rstd;  // (N, d_model), (N)
  TensorView u, act;        // (N, ff_in), (N, d_ff); one memory if there is a mask
  TensorView mask;          // of act, u8 (N, d_ff / 8); given if masks_activation
};

/// Whether a block keeps a mask of act in place of u: it is all that the gradient of a relu without a gate needs.
[[nodiscard]] bool masks_activation(const T5Config& config);

/// Everything inside a block. hidden_attention is the residual stream after self-attention, hidden_cross after cross-attention.
struct BlockActivations {
  AttentionActivations self, cross;
  FeedForwardActivations feed_forward;
  TensorView hidden_attention, hidden_cross;
};

[[nodiscard]] BlockActivations carve_block(Carver& carver, const T5Config& config, DType dtype, std::int64_t rows,
                                           std::int64_t source_rows, bool decoder);

/// What the end of a stack keeps: the hidden state it read, its final norm, and the gradients of both. d_hidden is the one gradient
/// of the residual stream that the stack's backward pass carries from block to block.
struct OutputActivations {
  TensorView hidden, normed, rstd;  // (N, d_model), (N, d_model), (N)
  TensorView d_normed, d_hidden;    // (N, d_model); training only
};

[[nodiscard]] OutputActivations carve_output(Carver& carver, const T5Config& config, DType dtype, std::int64_t rows,
                                             bool training);

/// Temporary memory of one op sequence, shared by all stages and micro-batches.
struct Scratch {
  TensorView branch;      // (N, d_model) a sublayer's output, forward, in branch_dtype; backward its gradient, in dtype
  TensorView d_normed;    // (N, d_model)
  TensorView d_wide;      // (N, max(d_ff, 3 inner)): gradient of act, or of qkv, or of cross q
  TensorView d_inner;     // (N, inner) gradient of an attention's output
  TensorView d_kv;        // (source rows, 2 inner)
  TensorView logits;      // (head_chunk_rows, vocabulary) f32
  TensorView d_logits;    // the same in `dtype`; not given where that is f32: the gradient then replaces the logits
  TensorView recomputed;  // bytes of the largest block's activations, for activation checkpointing
};

/// How many rows of the head's product are made at a time.
struct HeadChunk {
  std::int64_t logit_bytes;  // of f32 logits, at most
  std::int64_t multiple;     // of which the number of rows is, unless it is all rows
};
inline constexpr HeadChunk kHostHeadChunk = {.logit_bytes = 32 << 20, .multiple = 1};
/// Fills a GPU with tiles of 128 rows, and reads and writes the head's weight gradient a few times a micro-batch only.
inline constexpr HeadChunk kGpuHeadChunk = {.logit_bytes = 256 << 20, .multiple = 128};

/// Rows of the head's product at a time: what `chunk` says, but at least 16 and at least `multiple`, and at most all.
[[nodiscard]] std::int64_t head_chunk_rows(const T5Config& config, std::int64_t rows,
                                           const HeadChunk& chunk = kHostHeadChunk);

/// \param training  false: what only the backward pass uses is left out
[[nodiscard]] Scratch carve_scratch(Carver& carver, const T5Config& config, DType dtype, const BatchLimits& limits,
                                    bool training, const HeadChunk& chunk = kHostHeadChunk);

}  // namespace spillway::model
