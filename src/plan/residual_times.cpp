// SPDX-License-Identifier: Apache-2.0
#include "plan/residual_times.hpp"

#include <algorithm>
#include <utility>

#include "plan/job_ledger.hpp"

namespace spillway::plan {

ResidualTimes::ResidualTimes(const std::vector<double>& bytes, int group_size, Move move)
    : bytes_(bytes), move_(std::move(move)) {
  int stages = 0;
  for (std::size_t stage = 0; stage < bytes.size(); ++stage) {
    if (bytes[stage] <= 0.0) continue;
    last_stage_ = static_cast<int>(stage);
    ++stages;
  }
  places_ = static_cast<std::size_t>(residual_places(group_size, stages));
}

double ResidualTimes::bytes_of(int stage) const {
  return static_cast<std::size_t>(stage) < bytes_.size() ? bytes_[static_cast<std::size_t>(stage)] : 0.0;
}

double ResidualTimes::before_forward(int stage, double now) {
  if (!written_by(stage)) {
    // What was written last is still in its place, and is wanted first.
    if (stage > last_stage_ && fetched_.empty()) fetched_.assign(std::min(places_, written_.size()), now);
    return now;
  }
  if (!fetched_.empty()) {  // the next group
    written_.clear();
    saved_.clear();
    fetched_.clear();
    read_ = 0;
  }
  return written_.size() < places_ ? now : std::max(now, saved_[written_.size() - places_]);
}

void ResidualTimes::after_forward(int stage, double now) {
  if (!written_by(stage)) return;
  written_.push_back(stage + 1);
  saved_.push_back(move_(now, 0.0, bytes_of(stage + 1)));
}

double ResidualTimes::before_backward(int stage, double now) {
  return bytes_of(stage) > 0.0 ? std::max(now, fetched_[read_++]) : now;
}

void ResidualTimes::after_backward(int stage, double now) {
  if (bytes_of(stage) > 0.0 && fetched_.size() < written_.size()) fetch(now);
}

void ResidualTimes::fetch(double now) {
  const int stage = written_[written_.size() - 1 - fetched_.size()];
  fetched_.push_back(move_(std::max(now, saved_.back()), bytes_of(stage), 0.0));
}

}  // namespace spillway::plan
