// SPDX-License-Identifier: Apache-2.0
#include "model/generator.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace spillway::model {

namespace {

/// What `carver` has given out since it had given out `begin` bytes.
TensorView bytes_since(const Carver& carver, std::size_t begin, const TensorView& first) {
  return {first.data(), DType::u8, {static_cast<std::int64_t>(carver.bytes() - begin)}};
}

GenerationLists carve_lists(Carver& carver, const GenerationLimits& limits) {
  const std::int64_t rows = limits.items * limits.options.num_beams;
  const std::int64_t capacity = limits.options.max_length;
  const std::int64_t candidates = 2 * limits.options.num_beams;
  GenerationLists l;
  const std::size_t begin = carver.bytes();
  l.ancestry = carver.take({rows, capacity}, DType::i32);
  l.token_cache = carver.take({rows, capacity}, DType::i32);
  l.tokens = carver.take({rows}, DType::i32);
  l.row_sequence = carver.take({rows}, DType::i32);
  l.row_number = carver.take({rows + 1}, DType::i32);
  l.row_zero = carver.take({rows}, DType::i32);
  l.row_scores = carver.take({rows});
  l.sent = bytes_since(carver, begin, l.ancestry);
  const std::size_t middle = carver.bytes();
  l.top_scores = carver.take({limits.items, candidates});
  l.top_rows = carver.take({limits.items, candidates}, DType::i32);
  l.top_tokens = carver.take({limits.items, candidates}, DType::i32);
  l.received = bytes_since(carver, middle, l.top_scores);
  return l;
}

}  // namespace

GenerationMemory carve_generation(Carver& carver, Carver& pinned, const T5Config& c, DType dtype,
                                  const GenerationLimits& limits) {
  const std::int64_t rows = limits.items * limits.options.num_beams;
  const std::int64_t capacity = limits.options.max_length;
  GenerationMemory m;
  for (std::int64_t block = 0; block < c.num_decoder_layers; ++block) {
    m.cache_k.push_back(carver.take({rows, capacity, c.inner()}, dtype));
    m.cache_v.push_back(carver.take({rows, capacity, c.inner()}, dtype));
    m.cross_kv.push_back(carver.take({limits.source_rows, 2 * c.inner()}, dtype));
  }
  m.hidden = carver.take({rows, c.d_model}, stream_dtype(dtype));
  m.normed = carver.take({rows, c.d_model}, dtype);
  m.rstd = carver.take({rows});
  m.qkv = carver.take({rows, 3 * c.inner()}, dtype);
  m.attended = carver.take({rows, c.inner()}, dtype);
  m.branch = carver.take({rows, c.d_model}, stream_dtype(dtype));
  m.u = carver.take({rows, c.ff_in()}, dtype);
  m.act = carver.take({rows, c.d_ff}, dtype);
  m.logits = carver.take({rows, c.vocab_size});
  m.lists = carve_lists(carver, limits);
  m.host_lists = carve_lists(pinned, limits);
  m.next_ancestry = pinned.take({rows, capacity}, DType::i32);
  return m;
}

Generator::Generator(Device& device, const T5Config& config, const T5Layout& layout, T5Model& t5,
                     kernels::ModelOps& ops, kernels::GenerationOps& generation_ops, ParameterSource& parameters,
                     const GenerationMemory& memory)
    : device_(device),
      config_(config),
      layout_(layout),
      t5_(t5),
      ops_(ops),
      generation_ops_(generation_ops),
      parameters_(parameters),
      memory_(memory) {
  // On the host nothing need be copied.
  if (device_.is_host()) memory_.lists = memory_.host_lists;
  std::ranges::fill(memory_.host_lists.row_zero.as<std::int32_t>(), 0);
  const auto numbers = memory_.host_lists.row_number.as<std::int32_t>();
  std::iota(numbers.begin(), numbers.end(), 0);
}

std::vector<std::vector<Hypothesis>> Generator::generate(Queue& queue, const MicroBatch& batch,
                                                         const GenerationOptions& options,
                                                         const std::function<bool(bool)>& all_done) {
  const std::int64_t items = batch.source.count;
  const std::int64_t rows = items * options.num_beams;
  BeamSearch search(items, options, config_.decoder_start_token_id, config_.eos_token_id, config_.pad_token_id);
  encode(queue, batch);
  const auto sequence = memory_.host_lists.row_sequence.as<std::int32_t>();
  for (std::int64_t row = 0; row < rows; ++row)
    sequence[static_cast<std::size_t>(row)] = static_cast<std::int32_t>(row / options.num_beams);

  while (!all_done(search.done())) {
    const std::int64_t position = std::min(search.length(), options.max_length) - 1;
    const bool mine = rows > 0 && !search.done();
    if (mine) {
      std::ranges::copy(search.next_tokens(), memory_.host_lists.tokens.as<std::int32_t>().begin());
      std::ranges::copy(search.row_scores(), memory_.host_lists.row_scores.as<float>().begin());
      reorder(search, rows);
      copy(queue, memory_.lists.sent, memory_.host_lists.sent);
    }
    decode_one(queue, batch, mine ? rows : 0, position);
    if (!mine) continue;
    choose(queue, search, items, options);
  }
  return search.finish();
}

void Generator::choose(Queue& queue, BeamSearch& search, std::int64_t items, const GenerationOptions& options) {
  const std::int64_t rows = items * options.num_beams;
  const TensorView logits = memory_.logits.rows(0, rows);
  // transformers processes log-probabilities in beam search and logits in greedy search.
  const bool normalise_first = options.processes_scores() && options.num_beams > 1;
  if (normalise_first) generation_ops_.log_softmax(queue, {.rows = rows, .scores = logits});
  if (options.processes_scores())
    generation_ops_.process_scores(queue, {.rows = rows,
                                           .capacity = memory_.lists.ancestry.extent(1),
                                           .length = search.length(),
                                           .tokens = memory_.lists.token_cache.rows(0, rows),
                                           .ancestry = memory_.lists.ancestry.rows(0, rows),
                                           .repetition_penalty = static_cast<float>(options.repetition_penalty),
                                           .no_repeat_ngram_size = options.no_repeat_ngram_size,
                                           .min_length = options.min_length,
                                           .end_token = config_.eos_token_id,
                                           .scores = logits});
  const kernels::TopContinuations top{.items = items,
                                      .beams = options.num_beams,
                                      .count = search.candidates(),
                                      .normalised = normalise_first,
                                      .logits = logits,
                                      .row_scores = memory_.lists.row_scores.rows(0, rows),
                                      .scores = memory_.lists.top_scores.rows(0, items),
                                      .rows = memory_.lists.top_rows.rows(0, items),
                                      .tokens = memory_.lists.top_tokens.rows(0, items)};
  generation_ops_.top_continuations(queue, top);
  copy(queue, memory_.host_lists.received, memory_.lists.received);
  queue.synchronize();
  const GenerationLists& found = memory_.host_lists;
  search.advance(found.top_scores.rows(0, items).as<float>(), found.top_rows.rows(0, items).as<std::int32_t>(),
                 found.top_tokens.rows(0, items).as<std::int32_t>());
}

void Generator::copy(Queue& queue, const TensorView& to, const TensorView& from) {
  if (to.data() != from.data()) device_.copy(queue, to.data(), from.data(), from.bytes());
}

void Generator::encode(Queue& queue, const MicroBatch& batch) {
  const PassOptions options{.dropout = 0.0F, .keep_activations = false};
  const std::vector<Stage>& stages = t5_.stages();
  for (int stage = 0; stages[static_cast<std::size_t>(stage)].kind != StageKind::decoder_embedding; ++stage) {
    const int unit = stages[static_cast<std::size_t>(stage)].unit;
    const int next = stages[static_cast<std::size_t>(stage) + 1].unit;
    if (next != 0) parameters_.prefetch(next);
    if (unit != 0) parameters_.acquire(unit);
    if (batch.source.rows > 0) t5_.forward(queue, stage, batch, options);
    if (unit != 0) parameters_.release(unit);
  }
  for (std::int64_t block = 0; block < config_.num_decoder_layers; ++block) {
    const int unit = layout_.decoder_unit(block);
    parameters_.acquire(unit);
    if (batch.source.rows > 0)
      ops_.linear(queue, {.x = t5_.encoder_output(batch),
                          .w = weight({unit, layout_.decoder_block().cross_kv}, {2 * config_.inner(), config_.d_model}),
                          .y = memory_.cross_kv[static_cast<std::size_t>(block)].rows(0, batch.source.rows)});
    parameters_.release(unit);
  }
}

void Generator::reorder(const BeamSearch& search, std::int64_t rows) {
  const auto capacity = static_cast<std::size_t>(memory_.host_lists.ancestry.extent(1));
  const auto position = static_cast<std::size_t>(search.length() - 1);
  const auto from = memory_.host_lists.ancestry.as<std::int32_t>();
  const auto to = memory_.next_ancestry.as<std::int32_t>();
  for (std::size_t row = 0; row < static_cast<std::size_t>(rows); ++row) {
    const auto parent = static_cast<std::size_t>(search.parents()[row]);
    std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(parent * capacity), position,
                to.begin() + static_cast<std::ptrdiff_t>(row * capacity));
    to[row * capacity + position] = static_cast<std::int32_t>(row);
    memory_.host_lists.token_cache.as<std::int32_t>()[row * capacity + position] = search.next_tokens()[row];
  }
  std::ranges::copy(memory_.next_ancestry.as<std::int32_t>(), memory_.host_lists.ancestry.as<std::int32_t>().begin());
}

kernels::PackedSequences Generator::single_rows(std::int64_t rows) const {
  return {.offsets = memory_.lists.row_number.rows(0, rows + 1),
          .row_sample = memory_.lists.row_zero.rows(0, rows),
          .row_position = memory_.lists.row_zero.rows(0, rows),
          .count = rows,
          .rows = rows,
          .longest = 1};
}

ConstTensorView Generator::weight(const Place& place, Shape shape) {
  return parameters_.weights(place.unit).flat(place.offset, shape.elements()).reshape(shape);
}

void Generator::decode_one(Queue& queue, const MicroBatch& batch, std::int64_t rows, std::int64_t position) {
  if (rows > 0)
    ops_.embedding(queue, {.sequences = single_rows(rows),
                           .ids = memory_.lists.tokens.rows(0, rows),
                           .table = weight(layout_.places().shared, {config_.vocab_size, config_.d_model}),
                           .out = memory_.hidden.rows(0, rows)});
  for (std::int64_t block = 0; block < config_.num_decoder_layers; ++block) {
    const int unit = layout_.decoder_unit(block);
    if (unit + 1 < layout_.units()) parameters_.prefetch(unit + 1);
    parameters_.acquire(unit);
    if (rows > 0) decode_block(queue, batch, rows, position, block);
    parameters_.release(unit);
  }
  const int head = layout_.head().unit;
  if (!layout_.persistent(head)) parameters_.acquire(head);
  if (rows > 0) {
    norm(queue, rows, layout_.places().decoder_norms.back(), true);
    const float alpha =
        config_.scale_logits ? static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.d_model))) : 1.0F;
    ops_.linear(queue, {.x = memory_.normed.rows(0, rows),
                        .w = weight(layout_.head(), {config_.vocab_size, config_.d_model}),
                        .y = memory_.logits.rows(0, rows),
                        .alpha = alpha});
  }
  if (!layout_.persistent(head)) parameters_.release(head);
}

void Generator::norm(Queue& queue, std::int64_t rows, const Place& weight_place, bool add_branch) {
  ops_.residual_norm(queue, {.sequences = single_rows(rows),
                             .hidden_in = memory_.hidden.rows(0, rows),
                             .branch = add_branch ? memory_.branch.rows(0, rows) : TensorView{},
                             .weight = weight(weight_place, {config_.d_model}),
                             .epsilon = static_cast<float>(config_.layer_norm_epsilon),
                             .hidden_out = memory_.hidden.rows(0, rows),
                             .normed = memory_.normed.rows(0, rows),
                             .rstd = memory_.rstd.rows(0, rows)});
}

void Generator::decode_block(Queue& queue, const MicroBatch& batch, std::int64_t rows, std::int64_t position,
                             std::int64_t block) {
  const auto index = static_cast<std::size_t>(block);
  const int unit = layout_.decoder_unit(block);
  const BlockOffsets& at = layout_.decoder_block();
  const std::int64_t d = config_.d_model;
  const std::int64_t inner = config_.inner();
  const std::int64_t capacity = memory_.cache_k[index].extent(1);
  const auto width = static_cast<std::size_t>(inner) * size_of(memory_.qkv.dtype());
  const TensorView normed = memory_.normed.rows(0, rows);
  const TensorView attended = memory_.attended.rows(0, rows);
  const TensorView branch = memory_.branch.rows(0, rows);

  norm(queue, rows, layout_.places().decoder_norms[3 * index], block > 0);
  const TensorView qkv = memory_.qkv.rows(0, rows);
  ops_.linear(queue, {.x = normed, .w = weight({unit, at.qkv}, {3 * inner, d}), .y = qkv});
  generation_ops_.append_to_cache(queue, {.rows = rows,
                                          .capacity = capacity,
                                          .position = position,
                                          .width = inner,
                                          .k = {qkv.data() + width, qkv.dtype(), qkv.shape()},
                                          .v = {qkv.data() + 2 * width, qkv.dtype(), qkv.shape()},
                                          .stride = 3 * inner,
                                          .cache_k = memory_.cache_k[index].rows(0, rows),
                                          .cache_v = memory_.cache_v[index].rows(0, rows)});
  generation_ops_.cached_self_attention(
      queue, {.rows = rows,
              .capacity = capacity,
              .position = position,
              .heads = config_.num_heads,
              .head_size = config_.d_kv,
              .q = qkv,
              .q_stride = 3 * inner,
              .cache_k = memory_.cache_k[index].rows(0, rows),
              .cache_v = memory_.cache_v[index].rows(0, rows),
              .ancestry = memory_.lists.ancestry.rows(0, rows),
              .bias = {.table = weight(layout_.places().decoder_biases[index],
                                       {config_.relative_attention_num_buckets, config_.num_heads}),
                       .bidirectional = false,
                       .max_distance = config_.relative_attention_max_distance},
              .out = attended});
  ops_.linear(queue, {.x = attended, .w = weight({unit, at.o}, {d, inner}), .y = branch});

  norm(queue, rows, layout_.places().decoder_norms[3 * index + 1], true);
  const TensorView q = memory_.qkv.flat(0, rows * inner).reshape({rows, inner});
  const TensorView kv = memory_.cross_kv[index].rows(0, batch.source.rows);
  ops_.linear(queue, {.x = normed, .w = weight({unit, at.cross_q}, {inner, d}), .y = q});
  generation_ops_.cached_cross_attention(queue, {.keys = batch.source,
                                                 .rows = rows,
                                                 .heads = config_.num_heads,
                                                 .head_size = config_.d_kv,
                                                 .q = q,
                                                 .k = kv,
                                                 .v = {kv.data() + width, kv.dtype(), kv.shape()},
                                                 .row_sequence = memory_.lists.row_sequence.rows(0, rows),
                                                 .k_stride = 2 * inner,
                                                 .v_stride = 2 * inner,
                                                 .out = attended});
  ops_.linear(queue, {.x = attended, .w = weight({unit, at.cross_o}, {d, inner}), .y = branch});

  norm(queue, rows, layout_.places().decoder_norms[3 * index + 2], true);
  const TensorView u = memory_.u.rows(0, rows);
  const TensorView act = memory_.act.rows(0, rows);
  ops_.linear(queue, {.x = normed, .w = weight({unit, at.wi}, {config_.ff_in(), d}), .y = u});
  ops_.activation(
      queue, {.sequences = single_rows(rows), .kind = config_.activation, .gated = config_.gated, .u = u, .out = act});
  ops_.linear(queue, {.x = act, .w = weight({unit, at.wo}, {d, config_.d_ff}), .y = branch});
}

}  // namespace spillway::model
