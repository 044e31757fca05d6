// SPDX-License-Identifier: Apache-2.0
#include "data/sampler.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "core/error.hpp"
#include "core/philox.hpp"

namespace spillway::data {
namespace {

/// Keeps the shuffle's draws apart from every other use of a key of (seed, number).
constexpr std::uint64_t kShuffleStream = 0x73687566666C65ULL;

}  // namespace

BatchSampler::BatchSampler(std::int64_t samples, std::int64_t global_batch_size, std::uint64_t seed, bool shuffle)
    : samples_(samples), global_batch_size_(global_batch_size), seed_(seed), shuffle_(shuffle) {
  if (samples < 1 || global_batch_size < 1) {
    throw ConfigError(fmt::format("a batch needs at least one sample: the data has {}, the global batch size is {}",
                                  samples, global_batch_size));
  }
  order_.resize(static_cast<std::size_t>(samples));
  std::iota(order_.begin(), order_.end(), std::int64_t{0});
}

BatchSampler::GlobalBatch BatchSampler::next(const Cursor& cursor) const {
  if (cursor.epoch < 0 || cursor.position < 0 || cursor.position >= samples_) {
    throw DataError(
        fmt::format("the data has {} samples, the data cursor stands at epoch {}, sample {}: it belongs to "
                    "other data",
                    samples_, cursor.epoch, cursor.position));
  }
  if (shuffle_ && cursor.epoch != epoch_) draw_order(cursor.epoch);
  const std::int64_t end = cursor.position + std::min(global_batch_size_, samples_ - cursor.position);
  return {.samples = {order_.begin() + cursor.position, order_.begin() + end},
          .next = end < samples_ ? Cursor{cursor.epoch, end} : Cursor{cursor.epoch + 1, 0}};
}

void BatchSampler::draw_order(std::int64_t epoch) const {
  std::iota(order_.begin(), order_.end(), std::int64_t{0});
  PhiloxStream stream(mix_key(seed_, static_cast<std::uint64_t>(epoch)), kShuffleStream);
  for (std::size_t left = order_.size(); left > 1; --left) std::swap(order_[left - 1], order_[stream.below(left)]);
  epoch_ = epoch;
}

}  // namespace spillway::data
