// SPDX-License-Identifier: Apache-2.0
#include "data/deal.hpp"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <numeric>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::data {
namespace {

/// Place `step` of a walk to and fro over `places`: 0, 1, ..., places-1, places-1, ..., 1, 0, 0, 1, ...
std::size_t snake(std::size_t step, std::size_t places) {
  const std::size_t place = step % places;
  return step / places % 2 == 0 ? place : places - 1 - place;
}

}  // namespace

std::vector<std::vector<std::vector<std::int32_t>>> deal(std::span<const std::int64_t> lengths, int ranks,
                                                         int micro_batches) {
  if (ranks < 1 || micro_batches < 1) {
    throw Error(fmt::format("cannot deal samples to {} ranks with {} micro-batches each", ranks, micro_batches));
  }
  const auto rank_count = static_cast<std::size_t>(ranks);
  const std::size_t slots = rank_count * static_cast<std::size_t>(micro_batches);
  std::vector<std::int32_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  const auto length = [&](std::int32_t index) { return lengths[static_cast<std::size_t>(index)]; };
  std::ranges::stable_sort(order, std::greater<>(), length);

  std::vector<std::vector<std::vector<std::int32_t>>> dealt(
      rank_count, std::vector<std::vector<std::int32_t>>(static_cast<std::size_t>(micro_batches)));
  for (std::size_t step = 0; step < order.size(); ++step) {
    const std::size_t slot = snake(step, slots);
    dealt[snake(slot, rank_count)][slot / rank_count].push_back(order[step]);
  }
  return dealt;
}

}  // namespace spillway::data
