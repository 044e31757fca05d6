// SPDX-License-Identifier: Apache-2.0
#include "model/beam_search.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace spillway::model {

BeamSearch::BeamSearch(std::int64_t items, const GenerationOptions& options, std::int32_t start_token,
                       std::int32_t end_token, std::int32_t pad_token)
    : options_(options),
      beams_(options.num_beams),
      end_(end_token),
      pad_(pad_token),
      items_(static_cast<std::size_t>(items)) {
  // Greedy search is a beam of one that ends at its first </s>.
  if (beams_ == 1) options_.early_stopping = EarlyStopping::yes;
  const auto rows = static_cast<std::size_t>(items * beams_);
  histories_.resize(rows);
  tokens_.assign(rows, start_token);
  parents_.resize(rows);
  std::iota(parents_.begin(), parents_.end(), 0);
  scores_.assign(rows, -1e9F);  // only the first beam of an item may continue at first
  for (std::size_t item = 0; item < items_.size(); ++item) scores_[item * static_cast<std::size_t>(beams_)] = 0.0F;
}

bool BeamSearch::done() const {
  return length_ >= options_.max_length ||
         std::all_of(items_.begin(), items_.end(), [](const Item& item) { return item.done; });
}

void BeamSearch::add(Item& item, std::vector<std::int32_t> tokens, double sum, std::int64_t generated) {
  const double score = sum / std::pow(static_cast<double>(generated), options_.length_penalty);
  const bool full = static_cast<std::int64_t>(item.finished.size()) == beams_;
  if (full && score <= item.finished.back().score) return;
  const auto place = std::find_if(item.finished.begin(), item.finished.end(),
                                  [&](const Hypothesis& other) { return other.score <= score; });
  item.finished.insert(place, {std::move(tokens), score});
  if (full) item.finished.pop_back();
}

bool BeamSearch::is_done(const Item& item, double best_sum) const {
  if (static_cast<std::int64_t>(item.finished.size()) < beams_) return false;
  if (options_.early_stopping == EarlyStopping::yes) return true;
  // The lengths at which an open beam is judged count tokens after the start token.
  const bool at_longest = options_.early_stopping == EarlyStopping::never && options_.length_penalty > 0.0;
  const std::int64_t generated = at_longest ? options_.max_length - 1 : length_ - 1;
  const double attainable = best_sum / std::pow(static_cast<double>(generated), options_.length_penalty);
  return item.finished.back().score >= attainable;
}

void BeamSearch::advance(std::span<const float> scores, std::span<const std::int32_t> rows,
                         std::span<const std::int32_t> tokens) {
  const auto wanted = static_cast<std::size_t>(candidates());
  const auto beams = static_cast<std::size_t>(beams_);
  std::vector<std::vector<std::int32_t>> histories(histories_.size());
  ++length_;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    Item& item = items_[i];
    if (item.done) {
      for (std::size_t beam = 0; beam < beams; ++beam) {
        const std::size_t row = i * beams + beam;
        tokens_[row] = pad_;
        parents_[row] = static_cast<std::int32_t>(row);
        scores_[row] = 0.0F;
      }
      continue;
    }
    std::size_t beam = 0;
    for (std::size_t rank = 0; rank < wanted && beam < beams; ++rank) {
      const std::size_t candidate = i * wanted + rank;
      const auto parent = static_cast<std::size_t>(rows[candidate]);
      if (tokens[candidate] == end_) {
        if (rank >= beams) continue;
        std::vector<std::int32_t> history = histories_[parent];
        history.push_back(end_);
        add(item, std::move(history), static_cast<double>(scores[candidate]), length_ - 1);
        continue;
      }
      const std::size_t row = i * beams + beam++;
      histories[row] = histories_[parent];
      histories[row].push_back(tokens[candidate]);
      tokens_[row] = tokens[candidate];
      parents_[row] = rows[candidate];
      scores_[row] = scores[candidate];
    }
    item.done = is_done(item, static_cast<double>(scores[i * wanted]));
  }
  histories_ = std::move(histories);
}

std::vector<std::vector<Hypothesis>> BeamSearch::finish() {
  const auto beams = static_cast<std::size_t>(beams_);
  std::vector<std::vector<Hypothesis>> result;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    Item& item = items_[i];
    if (!item.done)
      for (std::size_t row = i * beams; row < (i + 1) * beams; ++row)
        add(item, histories_[row], static_cast<double>(scores_[row]), length_ - 1);
    result.push_back(std::move(item.finished));
  }
  return result;
}

}  // namespace spillway::model
