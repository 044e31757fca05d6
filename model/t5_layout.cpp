// SPDX-License-Identifier: Apache-2.0
#include "model/t5_layout.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include <fmt/format.h>

#include "core/round_up.hpp"

namespace spillway::model {
namespace {

/// Lays tensors end to end in one unit.
class UnitBuilder {
 public:
  UnitBuilder(std::vector<TensorSpec>& tensors, std::vector<TensorTraits>& traits, int unit)
      : tensors_(tensors), traits_(traits), unit_(unit) {}

  /// The next tensor on a shard boundary. \return where it starts
  Place place(std::string name, Shape shape, TensorTraits traits) {
    return {unit_, start(std::move(name), shape, traits)};
  }
  /// The same. \return its offset
  std::int64_t start(std::string name, Shape shape, TensorTraits traits) {
    end_ = round_up(end_, kShardAlignment);
    return follow(std::move(name), shape, traits);
  }
  /// The next tensor right behind the last one, so that one product reads both.
  std::int64_t follow(std::string name, Shape shape, TensorTraits traits) {
    const std::int64_t offset = end_;
    end_ += shape.elements();
    tensors_.push_back({std::move(name), shape, unit_, offset});
    traits_.push_back(traits);
    return offset;
  }

 private:
  std::vector<TensorSpec>& tensors_;
  std::vector<TensorTraits>& traits_;
  int unit_;
  std::int64_t end_ = 0;
};

float power(std::int64_t base, const T5Config& config) {
  return static_cast<float>(config.initializer_factor / std::sqrt(static_cast<double>(base)));
}

/// An attention's q, k, v, o. \return offsets of the first matrix and of o
struct AttentionOffsets {
  std::int64_t q, k, o;
};
AttentionOffsets add_attention(UnitBuilder& unit, const std::string& prefix, const T5Config& c, bool cross) {
  const Shape in{c.inner(), c.d_model};
  const TensorTraits key{.deviation = power(c.d_model, c)};
  const TensorTraits query{.deviation = power(c.d_model * c.d_kv, c)};
  AttentionOffsets at{};
  at.q = unit.start(prefix + ".q.weight", in, query);
  at.k = cross ? unit.start(prefix + ".k.weight", in, key) : unit.follow(prefix + ".k.weight", in, key);
  unit.follow(prefix + ".v.weight", in, key);
  at.o = unit.start(prefix + ".o.weight", {c.d_model, c.inner()}, {.deviation = power(c.inner(), c)});
  return at;
}

void add_feed_forward(UnitBuilder& unit, const std::string& prefix, const T5Config& c, BlockOffsets& offsets) {
  const Shape in{c.d_ff, c.d_model};
  const TensorTraits wide{.deviation = power(c.d_model, c)};
  if (c.gated) {
    offsets.wi = unit.start(prefix + ".wi_0.weight", in, wide);
    unit.follow(prefix + ".wi_1.weight", in, wide);
  } else {
    offsets.wi = unit.start(prefix + ".wi.weight", in, wide);
  }
  offsets.wo = unit.start(prefix + ".wo.weight", {c.d_model, c.d_ff}, {.deviation = power(c.d_ff, c)});
}

}  // namespace

T5Layout::T5Layout(const T5Config& c, const Freezing& freezing) : encoder_blocks_(c.num_layers) {
  const TensorTraits norm{.deviation = 0.0F, .decay = false};
  const TensorTraits embedding{.deviation = static_cast<float>(c.initializer_factor)};
  const TensorTraits bias{.deviation = power(c.d_model, c), .decay = false};
  const Shape bias_shape{c.relative_attention_num_buckets, c.num_heads};
  const auto add_unit = [&](std::string name, bool trainable) {
    unit_names_.push_back(std::move(name));
    trainable_.push_back(trainable);
    return UnitBuilder(tensors_, traits_, units() - 1);
  };

  UnitBuilder persistent = add_unit("persistent", true);
  std::optional<UnitBuilder> frozen;
  if (freezing.embeddings || freezing.encoder) {
    frozen.emplace(add_unit("persistent.frozen", false));
    persistent_units_ = 2;
  }
  places_.shared = (frozen ? *frozen : persistent).place("shared.weight", {c.vocab_size, c.d_model}, embedding);
  const auto add_stack = [&](UnitBuilder& unit, const std::string& stack, std::int64_t blocks, int sublayers,
                             std::vector<Place>& biases, std::vector<Place>& norms) {
    for (std::int64_t block = 0; block < blocks; ++block)
      biases.push_back(block > 0 && !c.bias_in_every_block
                           ? biases.front()
                           : unit.place(fmt::format("{}.block.{}.layer.0.SelfAttention.relative_attention_bias.weight",
                                                    stack, block),
                                        bias_shape, bias));
    for (std::int64_t block = 0; block < blocks; ++block)
      for (int layer = 0; layer < sublayers; ++layer)
        norms.push_back(
            unit.place(fmt::format("{}.block.{}.layer.{}.layer_norm.weight", stack, block, layer), {c.d_model}, norm));
    norms.push_back(unit.place(stack + ".final_layer_norm.weight", {c.d_model}, norm));
  };
  add_stack(freezing.encoder ? *frozen : persistent, "encoder", c.num_layers, 2, places_.encoder_biases,
            places_.encoder_norms);
  add_stack(persistent, "decoder", c.num_decoder_layers, 3, places_.decoder_biases, places_.decoder_norms);

  for (std::int64_t block = 0; block < c.num_layers; ++block) {
    UnitBuilder unit = add_unit(fmt::format("encoder.{}", block), !freezing.encoder);
    const std::string prefix = fmt::format("encoder.block.{}.layer.", block);
    const AttentionOffsets self = add_attention(unit, prefix + "0.SelfAttention", c, false);
    encoder_.qkv = self.q;
    encoder_.o = self.o;
    add_feed_forward(unit, prefix + "1.DenseReluDense", c, encoder_);
  }
  for (std::int64_t block = 0; block < c.num_decoder_layers; ++block) {
    UnitBuilder unit = add_unit(fmt::format("decoder.{}", block), true);
    const std::string prefix = fmt::format("decoder.block.{}.layer.", block);
    const AttentionOffsets self = add_attention(unit, prefix + "0.SelfAttention", c, false);
    decoder_.qkv = self.q;
    decoder_.o = self.o;
    const AttentionOffsets cross = add_attention(unit, prefix + "1.EncDecAttention", c, true);
    decoder_.cross_q = cross.q;
    decoder_.cross_kv = cross.k;
    decoder_.cross_o = cross.o;
    add_feed_forward(unit, prefix + "2.DenseReluDense", c, decoder_);
  }
  head_ = c.untied_head ? add_unit("head", true).place("lm_head.weight", {c.vocab_size, c.d_model}, embedding)
                        : places_.shared;
  sort_by_place();
}

/// What is frozen was laid out between the others.
void T5Layout::sort_by_place() {
  std::vector<std::size_t> order(tensors_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return std::pair(tensors_[i].unit, tensors_[i].offset); });
  std::vector<TensorSpec> tensors;
  std::vector<TensorTraits> traits;
  for (const std::size_t i : order) {
    tensors.push_back(std::move(tensors_[i]));
    traits.push_back(traits_[i]);
    traits.back().stream = static_cast<int>(i);
  }
  tensors_ = std::move(tensors);
  traits_ = std::move(traits);
}

}  // namespace spillway::model
