// SPDX-License-Identifier: Apache-2.0
#include "model/activations.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "core/error.hpp"
#include "kernels/model_ops.hpp"

namespace spillway::model {

TensorView Carver::take(Shape shape, DType dtype) {
  constexpr std::int64_t kBoundary = 64;
  auto bytes = static_cast<std::int64_t>(size_of(dtype));
  bool overflow = false;
  for (int axis = 0; axis < shape.rank(); ++axis)
    overflow = overflow || shape[axis] < 0 || __builtin_mul_overflow(bytes, shape[axis], &bytes);
  overflow = overflow || __builtin_add_overflow(bytes, kBoundary - 1, &bytes);
  const auto rounded = static_cast<std::size_t>(bytes / kBoundary * kBoundary);
  std::size_t end = 0;
  if (overflow || __builtin_add_overflow(bytes_, rounded, &end))
    throw Error(fmt::format("a tensor of shape {} is larger than any memory", shape.text()), ExitCode::plan);
  const TensorView tensor(memory_ == nullptr ? nullptr : memory_ + bytes_, dtype, shape);
  bytes_ = end;
  return tensor;
}

bool masks_activation(const T5Config& c) {
  return c.activation == kernels::ActivationKind::relu && !c.gated && c.d_ff % 8 == 0;
}

BlockActivations carve_block(Carver& carver, const T5Config& c, DType dtype, std::int64_t rows,
                             std::int64_t source_rows, bool decoder) {
  const auto attention = [&](std::int64_t q_width, bool cross) {
    AttentionActivations a;
    a.normed = carver.take({rows, c.d_model}, dtype);
    a.rstd = carver.take({rows});
    a.q = carver.take({rows, q_width}, dtype);
    if (cross) a.kv = carver.take({source_rows, 2 * c.inner()}, dtype);
    a.log_sum_exp = carver.take({rows, c.num_heads});
    a.out = carver.take({rows, c.inner()}, dtype);
    return a;
  };
  BlockActivations block;
  block.self = attention(3 * c.inner(), false);
  block.hidden_attention = carver.take({rows, c.d_model});
  if (decoder) {
    block.cross = attention(c.inner(), true);
    block.hidden_cross = carver.take({rows, c.d_model});
  }
  block.feed_forward.normed = carver.take({rows, c.d_model}, dtype);
  block.feed_forward.rstd = carver.take({rows});
  block.feed_forward.u = carver.take({rows, c.ff_in()}, dtype);
  if (masks_activation(c)) {
    block.feed_forward.act = block.feed_forward.u;
    block.feed_forward.mask = carver.take({rows, c.d_ff / 8}, DType::u8);
  } else {
    block.feed_forward.act = carver.take({rows, c.d_ff}, dtype);
  }
  return block;
}

OutputActivations carve_output(Carver& carver, const T5Config& config, DType dtype, std::int64_t rows, bool training) {
  OutputActivations output;
  output.hidden = carver.take({rows, config.d_model});
  output.normed = carver.take({rows, config.d_model}, dtype);
  output.rstd = carver.take({rows});
  if (training) {
    output.d_normed = carver.take({rows, config.d_model}, dtype);
    output.d_hidden = carver.take({rows, config.d_model});
  }
  return output;
}

std::int64_t head_chunk_rows(const T5Config& config, std::int64_t rows, const HeadChunk& chunk) {
  constexpr std::int64_t kLeast = 16;
  const std::int64_t fit = chunk.logit_bytes / (4 * config.vocab_size) / chunk.multiple * chunk.multiple;
  return std::min(std::max<std::int64_t>(rows, 1), std::max({kLeast, chunk.multiple, fit}));
}

Scratch carve_scratch(Carver& carver, const T5Config& c, DType dtype, const BatchLimits& limits, bool training,
                      const HeadChunk& chunk) {
  const std::int64_t rows = std::max(limits.source_rows, limits.target_rows);
  Scratch scratch;
  scratch.branch = carver.take({rows, c.d_model}, kernels::branch_dtype(dtype));
  scratch.d_normed = carver.take({rows, c.d_model}, dtype);
  const Shape logits{head_chunk_rows(c, limits.target_rows, chunk), c.vocab_size};
  scratch.logits = carver.take(logits);
  if (training) {
    if (dtype != DType::f32) scratch.d_logits = carver.take(logits, dtype);
    scratch.d_wide = carver.take({rows, std::max(c.d_ff, 3 * c.inner())}, dtype);
    scratch.d_inner = carver.take({rows, c.inner()}, dtype);
    scratch.d_kv = carver.take({limits.source_rows, 2 * c.inner()}, dtype);
  }
  Carver encoder;
  Carver decoder;
  (void)carve_block(encoder, c, dtype, limits.source_rows, 0, false);
  (void)carve_block(decoder, c, dtype, limits.target_rows, limits.source_rows, true);
  scratch.recomputed = carver.take({static_cast<std::int64_t>(std::max(encoder.bytes(), decoder.bytes()))}, DType::u8);
  return scratch;
}

}  // namespace spillway::model
