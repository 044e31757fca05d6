// SPDX-License-Identifier: Apache-2.0
#include "train/adamw.hpp"

#include <algorithm>

namespace spillway::train {

AdamW::AdamW(const OptimizerParts& parts, const model::T5Layout& layout, AdamWSettings settings)
    : Optimizer(parts), settings_(settings) {
  const Zero& zero = parts.zero;
  for (int unit = 0; unit < zero.map->units(); ++unit) {
    std::vector<Segment>& segments = segments_.emplace_back();
    for (const TensorPiece& piece : zero.map->pieces(unit, zero.owned(unit))) {
      const bool decay = layout.traits()[static_cast<std::size_t>(piece.tensor)].decay;
      const Range range{piece.range_begin, piece.range_begin + piece.count};
      // Padding between tensors is zero and stays zero, so neighbours of one kind run together.
      if (!segments.empty() && segments.back().decay == decay) segments.back().range.end = range.end;
      else segments.push_back({range, decay});
    }
  }
}

void AdamW::update_extent(Queue& queue, const Extent& extent, const StateViews& views, const UpdateNumbers& numbers) {
  const std::int64_t unit_begin = parts_.zero.owned(extent.unit).begin;
  for (const Segment& segment : segments_[static_cast<std::size_t>(extent.unit)]) {
    const std::int64_t begin = std::max(segment.range.begin, extent.range.begin);
    const std::int64_t count = std::min(segment.range.end, extent.range.end) - begin;
    if (count <= 0) continue;
    const std::int64_t inside = begin - extent.range.begin;
    parts_.ops.adamw(queue, {.parameter = views.parameter.flat(inside, count),
                             .exp_avg = views.exp_avg.flat(inside, count),
                             .exp_avg_sq = views.exp_avg_sq.flat(inside, count),
                             .gradient = views.gradient.flat(inside, count),
                             .learning_rate = numbers.learning_rate,
                             .beta1 = settings_.beta1,
                             .beta2 = settings_.beta2,
                             .eps = settings_.eps,
                             .weight_decay = segment.decay ? settings_.weight_decay : 0.0,
                             .step = numbers.step,
                             .gradient_scale = numbers.gradient_scale,
                             .rounding = {.key = numbers.rounding_key,
                                          .site = 2 * static_cast<std::uint32_t>(extent.unit),
                                          .first = unit_begin + begin}});
  }
}

}  // namespace spillway::train
