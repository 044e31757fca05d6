// SPDX-License-Identifier: Apache-2.0
#include "model/beam_search.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace spillway::model {

BeamMemory carve_beams(Carver& carver, std::int64_t items, const GenerationOptions& options) {
  const std::int64_t beams = options.num_beams;
  const std::int64_t rows = items * beams;
  BeamMemory m;
  m.divisors = carver.take({options.max_length}, DType::f64);
  m.top_scores = carver.take({items, 2 * beams});
  m.top_rows = carver.take({items, 2 * beams}, DType::i32);
  m.top_tokens = carver.take({items, 2 * beams}, DType::i32);
  m.stop = carver.take({1}, DType::i32);
  kernels::BeamState& s = m.state;
  s.clock = carver.take({kernels::BeamState::kClockEntries}, DType::i32);
  s.tokens = carver.take({rows}, DType::i32);
  s.parents = carver.take({rows}, DType::i32);
  s.row_scores = carver.take({rows});
  s.ancestry = carver.take({rows, options.max_length}, DType::i32);
  s.token_cache = carver.take({rows, options.max_length}, DType::i32);
  s.done = carver.take({items}, DType::i32);
  s.finished_source = carver.take({items, beams}, DType::i32);
  const std::size_t begin = carver.bytes();
  s.finished_count = carver.take({items}, DType::i32);
  s.finished_scores = carver.take({items, beams}, DType::f64);
  s.finished_slot = carver.take({items, beams}, DType::i32);
  s.finished_length = carver.take({items, beams}, DType::i32);
  s.finished_tokens = carver.take({items, beams, options.max_length}, DType::i32);
  m.result = {s.finished_count.data(), DType::u8, {static_cast<std::int64_t>(carver.bytes() - begin)}};
  return m;
}

BeamMemory BeamMemory::first(std::int64_t items, std::int64_t beams) const {
  const std::int64_t rows = items * beams;
  BeamMemory m = *this;
  for (TensorView* view :
       {&m.top_scores, &m.top_rows, &m.top_tokens, &m.state.done, &m.state.finished_count, &m.state.finished_scores,
        &m.state.finished_slot, &m.state.finished_length, &m.state.finished_source, &m.state.finished_tokens})
    *view = view->rows(0, items);
  for (TensorView* view :
       {&m.state.tokens, &m.state.parents, &m.state.row_scores, &m.state.ancestry, &m.state.token_cache})
    *view = view->rows(0, rows);
  return m;
}

void start_beams(const BeamMemory& host, const GenerationOptions& options, std::int32_t start_token) {
  const auto fill = [](const TensorView& view, std::int32_t value) {
    std::ranges::fill(view.as<std::int32_t>(), value);
  };
  const kernels::BeamState& s = host.state;
  const auto divisors = host.divisors.as<double>();
  for (std::size_t length = 0; length < divisors.size(); ++length)
    divisors[length] = std::pow(static_cast<double>(length), options.length_penalty);
  fill(host.stop, 0);
  fill(s.clock, 0);
  fill(s.tokens, start_token);
  fill(s.done, 0);
  fill(s.finished_count, 0);
  fill(s.finished_source, -1);
  const auto parents = s.parents.as<std::int32_t>();
  std::iota(parents.begin(), parents.end(), 0);
  const auto scores = s.row_scores.as<float>();
  const auto beams = static_cast<std::size_t>(options.num_beams);
  const auto capacity = static_cast<std::size_t>(s.ancestry.extent(1));
  for (std::size_t row = 0; row < scores.size(); ++row) {
    scores[row] = row % beams == 0 ? 0.0F : -1e9F;
    s.ancestry.as<std::int32_t>()[row * capacity] = static_cast<std::int32_t>(row);
    s.token_cache.as<std::int32_t>()[row * capacity] = start_token;
  }
}

kernels::AdvanceBeams advance_of(const BeamMemory& memory, const GenerationOptions& options, std::int32_t end_token,
                                 std::int32_t pad_token) {
  return {.items = memory.top_scores.extent(0),
          .beams = options.num_beams,
          .count = memory.top_scores.extent(1),
          .capacity = memory.state.ancestry.extent(1),
          .max_length = options.max_length,
          .end_token = end_token,
          .pad_token = pad_token,
          .early_stopping = options.early_stopping,
          .length_penalty = options.length_penalty,
          .scores = memory.top_scores,
          .rows = memory.top_rows,
          .tokens = memory.top_tokens,
          .divisors = memory.divisors,
          .state = memory.state,
          .stop = memory.stop};
}

std::vector<std::vector<Hypothesis>> hypotheses_of(const BeamMemory& host) {
  const kernels::BeamState& s = host.state;
  const auto capacity = static_cast<std::size_t>(s.ancestry.extent(1));
  std::vector<std::vector<Hypothesis>> result;
  for (std::int64_t item = 0; item < s.done.extent(0); ++item) {
    const auto kept = static_cast<std::size_t>(s.finished_count.as<std::int32_t>()[static_cast<std::size_t>(item)]);
    const auto first = static_cast<std::size_t>(item * s.finished_slot.extent(1));
    std::vector<Hypothesis>& hypotheses = result.emplace_back();
    for (std::size_t i = first; i < first + kept; ++i) {
      const auto slot = static_cast<std::size_t>(s.finished_slot.as<std::int32_t>()[i]);
      const auto tokens = s.finished_tokens.as<std::int32_t>().subspan(
          slot * capacity, static_cast<std::size_t>(s.finished_length.as<std::int32_t>()[slot]));
      hypotheses.push_back({{tokens.begin(), tokens.end()}, s.finished_scores.as<double>()[i]});
    }
  }
  return result;
}

}  // namespace spillway::model
