// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/device.hpp"
#include "kernels/common.hpp"

namespace spillway::kernels {

/// What becomes of what is in the output already.
enum class Output { overwrite, add };

/// y = alpha · x wᵀ (+ y), or of that max(·, 0) if `relu`. x (N, in), w (out, in), y (N, out). y may be f32 where x and w are bf16 or
/// f16, unless `relu`.
struct Linear {
  ConstTensorView x, w;
  TensorView y;
  float alpha = 1.0F;
  Output output = Output::overwrite;
  bool relu = false;
};

/// dx = alpha · dy w (+ dx). dy (N, out), w (out, in), dx (N, in). dy may be f32 where w and dx are bf16 or f16.
struct LinearInputGradient {
  ConstTensorView dy, w;
  TensorView dx;
  float alpha = 1.0F;
  Output output = Output::overwrite;
};

/// dw = alpha · dyᵀ x (+ dw). dy (N, out), x (N, in), dw (out, in) f32. dy may be f32 where x is bf16 or f16. A pass that is the first to
/// write dw overwrites it, which then need not be zero before, and if it is the only one and dy is what x is, dw may be that too.
struct LinearWeightGradient {
  ConstTensorView dy, x;
  TensorView dw;
  float alpha = 1.0F;
  Output output = Output::add;
};

/// Of a branch, which is what a sublayer adds to the residual stream, where weights are in `dtype`. bf16 rounds a branch to 8 bits of its
/// own size, as it does everything inside the sublayer. f16 cannot hold every branch, which is why that is f32.
[[nodiscard]] constexpr DType branch_dtype(DType dtype) noexcept { return dtype == DType::bf16 ? dtype : DType::f32; }

/// out = dropout(table[ids]). ids i32 (N), table (vocabulary, width), out f32 (N, width) is the residual stream.
struct Embedding {
  PackedSequences sequences;
  ConstTensorView ids, table;
  Dropout dropout;
  TensorView out;
};

/// d_table[ids[n]] += dropout'(d_out[n]), rows in ascending n: deterministic. d_out, d_table f32.
struct EmbeddingGradient {
  PackedSequences sequences;
  ConstTensorView ids, d_out;
  Dropout dropout;
  TensorView d_table;
};

/// hidden_out = hidden_in + dropout(branch); normed = output_dropout(hidden_out · rstd · weight),
/// rstd = 1 / sqrt(mean(hidden_out²) + epsilon) (T5LayerNorm: no mean, no bias). The bits are those of residual_add and a norm without
/// a branch.
/// hidden_in, hidden_out f32 (N, width), the residual stream; branch (N, width) in branch_dtype; normed (N, width); weight (width);
/// rstd f32 (N). Without `branch` hidden_out may be left out too (it is hidden_in). hidden_out may alias hidden_in.
struct ResidualNorm {
  PackedSequences sequences;
  ConstTensorView hidden_in, branch, weight;
  Dropout dropout, output_dropout;
  float epsilon = 1e-6F;
  TensorView hidden_out, normed, rstd;
};

/// The gradient of ResidualNorm. `d_hidden` comes in as the gradient of hidden_out from later layers and leaves as that of
/// hidden_in: d_hidden += norm'(output_dropout'(d_normed)); d_weight += ...; d_branch = dropout'(d_hidden). d_branch is left out where
/// the forward had no branch. hidden (= hidden_out), d_hidden f32 (N, width); d_normed, d_branch (N, width); rstd f32 (N); weight (width);
/// d_weight f32 (width).
struct ResidualNormGradient {
  PackedSequences sequences;
  ConstTensorView d_normed, hidden, rstd, weight;
  Dropout dropout, output_dropout;
  TensorView d_hidden, d_branch, d_weight;
};

/// hidden_out = hidden_in + dropout(branch): a residual connection with no norm after it. hidden_in, hidden_out f32, branch f32 or bf16.
struct ResidualAdd {
  PackedSequences sequences;
  ConstTensorView hidden_in, branch;
  Dropout dropout;
  TensorView hidden_out;
};

/// d_branch = dropout'(d_hidden). d_hidden f32.
struct ResidualAddGradient {
  PackedSequences sequences;
  ConstTensorView d_hidden;
  Dropout dropout;
  TensorView d_branch;
};

/// The functions that transformers' ACT2FN gives a T5, σ the logistic function and Φ the normal distribution:
/// relu max(x, 0); relu_squared relu(x)²; gelu x Φ(x); gelu_new 0.5 x (1 + tanh(sqrt(2/π) (x + 0.044715 x³)));
/// quick_gelu x σ(1.702 x); silu x σ(x); sigmoid σ(x); tanh; mish x tanh(ln(1 + eˣ)).
enum class ActivationKind { relu, relu_squared, gelu, gelu_new, quick_gelu, silu, sigmoid, tanh, mish };

/// out = dropout(f(u)), or dropout(f(u[:, :width]) · u[:, width:]) if gated. u (N, width or 2 width), out (N, width), which may alias u if
/// not gated. `mask`, if it is given, u8 (N, width / 8), width a multiple of 8: which elements of out are not 0, column c of a row at bit
/// c % 8 of byte c / 8.
struct Activation {
  PackedSequences sequences;
  ActivationKind kind = ActivationKind::relu;
  bool gated = false;
  ConstTensorView u;
  Dropout dropout;
  TensorView out;
  TensorView mask = {};
};

/// du from d_out. u, du (N, width or 2 width), d_out (N, width). du may alias u. The `mask` of a relu that is not gated is all that its
/// gradient needs: with it u is left out, no sequence is looked at, and du may alias d_out.
struct ActivationGradient {
  PackedSequences sequences;
  ActivationKind kind = ActivationKind::relu;
  bool gated = false;
  ConstTensorView u, d_out;
  Dropout dropout;
  TensorView du;
  ConstTensorView mask = {};
};

/// T5's relative position bias: bias(query i, key j, head h) = table[bucket(j - i), h].
/// table (buckets, heads); not given: no bias.
struct RelativeBias {
  ConstTensorView table;
  bool bidirectional = true;
  std::int64_t max_distance = 128;
};

/// For every sequence s and head h: out = dropout(softmax(q kᵀ + bias, causal mask)) v, no 1/sqrt(d), softmax in fp32, the scores
/// of at most a block of queries of one head in memory at a time. Sequence s of `queries` attends to sequence s of `keys`.
/// q (Nq, heads, head_size) and k, v (Nk, heads, head_size) are column ranges of wider rows: `q_stride`, `k_stride`, `v_stride`
/// elements from row to row. out (Nq, heads · head_size) dense. log_sum_exp f32 (Nq, heads), for the backward pass; optional.
struct Attention {
  PackedSequences queries, keys;
  std::int64_t heads = 0;
  std::int64_t head_size = 0;
  ConstTensorView q, k, v;  // views that start at the first element: shape (rows, ...) is not looked at, strides are
  std::int64_t q_stride = 0, k_stride = 0, v_stride = 0;
  RelativeBias bias;
  bool causal = false;
  Dropout dropout;
  TensorView out, log_sum_exp;
};

/// Gradients of Attention, the probabilities recomputed from log_sum_exp; Σ_j p d_p of a row is taken as out · d_out, with out as stored.
/// d_q, d_k, d_v have the strides of q, k, v and are overwritten, each sum rounded once; d_bias f32 (buckets, heads) is added to in an
/// order that does not depend on threads.
struct AttentionGradient {
  Attention forward;      // with `out` and `log_sum_exp` as the forward pass left them
  ConstTensorView d_out;  // (Nq, heads · head_size)
  TensorView d_q, d_k, d_v;
  TensorView d_bias;  // not given where the forward had no bias
};

/// Softmax cross-entropy of a chunk of rows with label smoothing e, Hugging Face's LabelSmoother per token:
/// loss = (1 - e) · -log p[label] + e / V · Σ_v -log p[v]. logits (N, V), labels i32 (N), losses f32 (N).
/// If gradient_scale is not 0, `gradient` (N, V), f32, bf16 or f16, becomes gradient_scale · dloss/dlogits, computed in fp32 and rounded once
/// if it is narrower; logits then hold nothing of use. Without `gradient` it is logits that are overwritten with it. `gradient` may not
/// overlap logits otherwise.
struct CrossEntropy {
  TensorView logits;
  ConstTensorView labels;
  float label_smoothing = 0.0F;
  float gradient_scale = 0.0F;
  TensorView losses;
  TensorView gradient = {};
};

/// The maths of a T5's forward and backward pass: each op once, in the order of the queue it is given. Tensors are dense and row-major and
/// must live until the queue has passed the op. Gradients of weights are added to, in fp32, unless an op says so. Results do not depend on
/// the number of threads. A row-wise op looks at its `sequences` only where a dropout is active.
///
/// Storage. Activations and their gradients (x, y, dx, dy, hidden, normed, branch, u, out, q, k, v and d_...) and weights (w, table, norm
/// weights) of one op are all f32, all bf16 or all f16, but for what an op says of f32. Always f32: the residual stream and its gradient
/// (hidden, hidden_in, hidden_out, d_hidden, an embedding's out and d_out), which add up over all layers, so that 16 bits would round again
/// and again, and f16 overflow; rstd, log_sum_exp, logits, losses, and the gradients of weights (d_table, d_weight, d_bias; dw but for what
/// is said of it). f16 is for GPUs: the CPU form refuses it. Nothing saturates: what f16 cannot hold becomes infinity. Arithmetic is fp32
/// whatever the storage: 16 bits are widened when they are read, an element is rounded once, to nearest even, when it is stored; what an op
/// adds to (Output::add) is widened, added to and rounded. Nothing else is rounded: no probability, partial sum or dropped value, but where
/// an op writes a tensor and goes on with it, it goes on with what is stored. With f32 nothing is rounded at all.
/// \throws Error if shapes or dtypes do not fit, at once, before anything is queued; ids and labels are looked at by the queue
class ModelOps {
 public:
  virtual ~ModelOps() = default;
  virtual void linear(Queue&, const Linear&) = 0;
  virtual void linear_input_gradient(Queue&, const LinearInputGradient&) = 0;
  virtual void linear_weight_gradient(Queue&, const LinearWeightGradient&) = 0;
  virtual void embedding(Queue&, const Embedding&) = 0;
  virtual void embedding_gradient(Queue&, const EmbeddingGradient&) = 0;
  virtual void residual_norm(Queue&, const ResidualNorm&) = 0;
  virtual void residual_norm_gradient(Queue&, const ResidualNormGradient&) = 0;
  virtual void residual_add(Queue&, const ResidualAdd&) = 0;
  virtual void residual_add_gradient(Queue&, const ResidualAddGradient&) = 0;
  virtual void activation(Queue&, const Activation&) = 0;
  virtual void activation_gradient(Queue&, const ActivationGradient&) = 0;
  virtual void attention(Queue&, const Attention&) = 0;
  virtual void attention_gradient(Queue&, const AttentionGradient&) = 0;
  virtual void cross_entropy(Queue&, const CrossEntropy&) = 0;
  virtual void fill_zero(Queue&, TensorView) = 0;
  /// to += from, same shape. from f32, bf16 or f16, to f32.
  virtual void add(Queue&, ConstTensorView from, TensorView to) = 0;
  /// to = from, same shape, each f32, bf16 or f16: widened exactly, or rounded to nearest even.
  virtual void convert(Queue&, ConstTensorView from, TensorView to) = 0;
};

}  // namespace spillway::kernels
