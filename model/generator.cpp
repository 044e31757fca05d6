// SPDX-License-Identifier: Apache-2.0
#include "model/generator.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace spillway::model {

namespace {

/// Tokens between two looks at whether a GPU is through. It makes at most twice as many too many, which are thrown away.
constexpr std::int64_t kTokensPerLook = 4;

GenerationLists carve_lists(Carver& carver, const GenerationLimits& limits) {
  const std::int64_t rows = limits.items * limits.options.num_beams;
  const std::size_t begin = carver.bytes();
  GenerationLists l;
  l.row_sequence = carver.take({rows}, DType::i32);
  l.row_number = carver.take({rows + 1}, DType::i32);
  l.row_zero = carver.take({rows}, DType::i32);
  l.beams = carve_beams(carver, limits.items, limits.options);
  l.all = {l.row_sequence.data(), DType::u8, {static_cast<std::int64_t>(carver.bytes() - begin)}};
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
  m.hidden = carver.take({rows, c.d_model});
  m.normed = carver.take({rows, c.d_model}, dtype);
  m.rstd = carver.take({rows});
  m.qkv = carver.take({rows, 3 * c.inner()}, dtype);
  m.attended = carver.take({rows, c.inner()}, dtype);
  m.branch = carver.take({rows, c.d_model}, kernels::branch_dtype(dtype));
  m.u = carver.take({rows, c.ff_in()}, dtype);
  m.act = carver.take({rows, c.d_ff}, dtype);
  m.logits = carver.take({rows, c.vocab_size});
  m.lists = carve_lists(carver, limits);
  m.host_lists = carve_lists(pinned, limits);
  return m;
}

Generator::Generator(Device& device, const T5Config& config, const T5Layout& layout, T5Model& t5,
                     kernels::ModelOps& ops, kernels::GenerationOps& generation_ops, ParameterSource& parameters,
                     const GenerationMemory& memory, bool weights_stay)
    : device_(device),
      config_(config),
      layout_(layout),
      t5_(t5),
      ops_(ops),
      generation_ops_(generation_ops),
      parameters_(parameters),
      memory_(memory),
      weights_stay_(weights_stay) {
  // On the host nothing need be copied.
  if (device_.is_host()) memory_.lists = memory_.host_lists;
}

std::vector<std::vector<Hypothesis>> Generator::generate(Queue& queue, const MicroBatch& batch,
                                                         const GenerationOptions& options,
                                                         const std::function<bool(bool)>& all_done) {
  const std::int64_t items = batch.source.count;
  TokenWork work{.keys = batch.source,
                 .rows = items * options.num_beams,
                 .beams = memory_.lists.beams.first(items, options.num_beams),
                 .options = options};
  // A GPU's kernels look at the offsets alone: batches of other lengths are the same work.
  if (!device_.is_host()) work.keys.rows = work.keys.longest = memory_.cross_kv.front().extent(0);
  work.beams.stop = memory_.host_lists.beams.stop;
  const TokenWork none{.keys = {}, .rows = 0, .beams = {}, .options = options};
  start(queue, items, options);
  encode(queue, batch);
  if (weights_stay_) each_decoder_unit([&](int unit) { parameters_.acquire(unit); });

  const std::int64_t together = device_.is_host() ? 1 : kTokensPerLook;
  const volatile std::int32_t& stop = work.beams.stop.as<std::int32_t>().front();
  std::int64_t made = 1;  // tokens with the start token
  Event before;
  while (true) {
    const bool mine = items > 0 && stop == 0 && made < options.max_length;
    if (all_done(!mine)) break;
    for (std::int64_t i = 0; i < together; ++i) run_token(queue, mine && made++ < options.max_length ? work : none);
    // The host runs ahead by what it has just submitted, so that a GPU never waits for it.
    before.wait();
    before = queue.record();
    generation_ops_.check_logits();
  }
  if (weights_stay_) each_decoder_unit([&](int unit) { parameters_.release(unit); });
  copy(queue, memory_.host_lists.beams.result, memory_.lists.beams.result);
  queue.synchronize();
  generation_ops_.check_logits();
  return hypotheses_of(memory_.host_lists.beams.first(items, options.num_beams));
}

void Generator::start(Queue& queue, std::int64_t items, const GenerationOptions& options) {
  const GenerationLists& lists = memory_.host_lists;
  std::ranges::fill(lists.row_zero.as<std::int32_t>(), 0);
  const auto numbers = lists.row_number.as<std::int32_t>();
  std::iota(numbers.begin(), numbers.end(), 0);
  const auto sequences = lists.row_sequence.as<std::int32_t>();
  for (std::size_t row = 0; row < sequences.size(); ++row)
    sequences[row] = static_cast<std::int32_t>(row) / options.num_beams;
  start_beams(lists.beams.first(items, options.num_beams), options, config_.decoder_start_token_id);
  copy(queue, memory_.lists.all, lists.all);
}

void Generator::copy(Queue& queue, const TensorView& to, const TensorView& from) {
  if (to.data() != from.data()) device_.copy(queue, to.data(), from.data(), from.bytes());
}

bool Generator::is_known(const TokenWork& work) const {
  const TokenWork& other = recorded_.work;
  return work.rows == other.rows && work.keys.offsets.data() == other.keys.offsets.data() &&
         work.keys.rows == other.keys.rows && work.keys.longest == other.keys.longest && work.options == other.options;
}

void Generator::run_token(Queue& queue, const TokenWork& work) {
  const auto run = [this, &queue](const TokenWork& token) {
    decode_one(queue, token);
    if (token.rows > 0) choose(queue, token);
  };
  if (!weights_stay_ || work.rows == 0) return run(work);
  if (!is_known(work)) {
    // What is loaded or chosen when it is first used must not be so while it is recorded.
    recorded_ = {.work = work, .recording = nullptr};
    return run(work);
  }
  if (!recorded_.recording) recorded_.recording = device_.record_work(queue, [run, work] { run(work); });
  recorded_.recording->run(queue);
}

void Generator::choose(Queue& queue, const TokenWork& work) {
  const GenerationOptions& options = work.options;
  const kernels::BeamState& state = work.beams.state;
  const TensorView logits = memory_.logits.rows(0, work.rows);
  // transformers processes log-probabilities in beam search and logits in greedy search.
  const bool normalise_first = options.processes_scores() && options.num_beams > 1;
  if (normalise_first) generation_ops_.log_softmax(queue, {.rows = work.rows, .scores = logits});
  if (options.processes_scores())
    generation_ops_.process_scores(queue, {.rows = work.rows,
                                           .capacity = state.ancestry.extent(1),
                                           .position = state.clock.flat(0, 1),
                                           .tokens = state.token_cache,
                                           .ancestry = state.ancestry,
                                           .repetition_penalty = static_cast<float>(options.repetition_penalty),
                                           .no_repeat_ngram_size = options.no_repeat_ngram_size,
                                           .min_length = options.min_length,
                                           .end_token = config_.eos_token_id,
                                           .scores = logits});
  generation_ops_.top_continuations(queue, {.items = work.rows / options.num_beams,
                                            .beams = options.num_beams,
                                            .count = work.beams.top_scores.extent(1),
                                            .normalised = normalise_first,
                                            .logits = logits,
                                            .row_scores = state.row_scores,
                                            .scores = work.beams.top_scores,
                                            .rows = work.beams.top_rows,
                                            .tokens = work.beams.top_tokens});
  generation_ops_.advance_beams(queue, advance_of(work.beams, options, config_.eos_token_id, config_.pad_token_id));
}

void Generator::encode(Queue& queue, const MicroBatch& batch) {
  const PassOptions options{.dropout = 0.0F};
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

template <typename Visit>
void Generator::each_decoder_unit(const Visit& visit) {
  for (std::int64_t block = 0; block < config_.num_decoder_layers; ++block) visit(layout_.decoder_unit(block));
  if (const int head = layout_.head().unit; !layout_.persistent(head)) visit(head);
}

void Generator::decode_one(Queue& queue, const TokenWork& work) {
  const std::int64_t rows = work.rows;
  if (rows > 0)
    ops_.embedding(queue, {.sequences = single_rows(rows),
                           .ids = work.beams.state.tokens,
                           .table = weight(layout_.places().shared, {config_.vocab_size, config_.d_model}),
                           .out = memory_.hidden.rows(0, rows)});
  for (std::int64_t block = 0; block < config_.num_decoder_layers; ++block) {
    const int unit = layout_.decoder_unit(block);
    if (!weights_stay_) {
      if (unit + 1 < layout_.units()) parameters_.prefetch(unit + 1);
      parameters_.acquire(unit);
    }
    if (rows > 0) decode_block(queue, work, block);
    if (!weights_stay_) parameters_.release(unit);
  }
  const int head = layout_.head().unit;
  const bool gathers_head = !weights_stay_ && !layout_.persistent(head);
  if (gathers_head) parameters_.acquire(head);
  if (rows > 0) {
    norm(queue, rows, layout_.places().decoder_norms.back(), true);
    const float alpha =
        config_.scale_logits ? static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.d_model))) : 1.0F;
    ops_.linear(queue, {.x = memory_.normed.rows(0, rows),
                        .w = weight(layout_.head(), {config_.vocab_size, config_.d_model}),
                        .y = memory_.logits.rows(0, rows),
                        .alpha = alpha});
  }
  if (gathers_head) parameters_.release(head);
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

void Generator::decode_block(Queue& queue, const TokenWork& work, std::int64_t block) {
  const std::int64_t rows = work.rows;
  const ConstTensorView position = work.beams.state.clock.flat(0, 1);
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
  generation_ops_.cached_self_attention(
      queue, {.rows = rows,
              .capacity = capacity,
              .heads = config_.num_heads,
              .head_size = config_.d_kv,
              .position = position,
              .q = qkv,
              .k = {qkv.data() + width, qkv.dtype(), qkv.shape()},
              .v = {qkv.data() + 2 * width, qkv.dtype(), qkv.shape()},
              .stride = 3 * inner,
              .cache_k = memory_.cache_k[index].rows(0, rows),
              .cache_v = memory_.cache_v[index].rows(0, rows),
              .ancestry = work.beams.state.ancestry,
              .bias = {.table = weight(layout_.places().decoder_biases[index],
                                       {config_.relative_attention_num_buckets, config_.num_heads}),
                       .bidirectional = false,
                       .max_distance = config_.relative_attention_max_distance},
              .out = attended});
  ops_.linear(queue, {.x = attended, .w = weight({unit, at.o}, {d, inner}), .y = branch});

  norm(queue, rows, layout_.places().decoder_norms[3 * index + 1], true);
  const TensorView q = memory_.qkv.flat(0, rows * inner).reshape({rows, inner});
  const TensorView kv = memory_.cross_kv[index].rows(0, work.keys.rows);
  ops_.linear(queue, {.x = normed, .w = weight({unit, at.cross_q}, {inner, d}), .y = q});
  generation_ops_.cached_cross_attention(queue, {.keys = work.keys,
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
  const bool with_product = config_.activation == kernels::ActivationKind::relu && !config_.gated;
  ops_.linear(queue, {.x = normed,
                      .w = weight({unit, at.wi}, {config_.ff_in(), d}),
                      .y = with_product ? act : u,
                      .relu = with_product});
  if (!with_product)
    ops_.activation(
        queue,
        {.sequences = single_rows(rows), .kind = config_.activation, .gated = config_.gated, .u = u, .out = act});
  ops_.linear(queue, {.x = act, .w = weight({unit, at.wo}, {d, config_.d_ff}), .y = branch});
}

}  // namespace spillway::model
