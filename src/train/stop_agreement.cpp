// SPDX-License-Identifier: Apache-2.0
#include "train/stop_agreement.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <vector>

#include "core/log.hpp"
#include "train/due.hpp"

namespace spillway::train {

void StopAgreement::step_took(double seconds) { longest_step_ = std::max(longest_step_, seconds); }
void StopAgreement::evaluation_took(double seconds) { longest_evaluation_ = std::max(longest_evaluation_, seconds); }
void StopAgreement::save_took(double seconds) {
  longest_save_ = std::max(longest_save_, seconds);
  saving_ = false;
  if (warned_) return;
  const std::string late = late_signal(request_.slurm(), longest_step_ + longest_save_);
  warned_ = !late.empty();
  if (warned_) log::warning(late);
}

double StopAgreement::share(double mine, const RunState& state, bool save_ready) {
  const auto start = std::chrono::steady_clock::now();
  const StopReason reason = request_.reason(std::chrono::duration<double>(seconds_to_stop(state)));
  const std::array<double, 5> values = {
      mine, static_cast<double>(reason == StopReason::signal), static_cast<double>(reason == StopReason::time_limit),
      static_cast<double>(reason == StopReason::job_end), static_cast<double>(save_ready)};
  const std::vector<double> sums = comm::ordered_sum(communicator_, values);
  seen_ = sums[1] > 0.0   ? StopReason::signal
          : sums[2] > 0.0 ? StopReason::time_limit
          : sums[3] > 0.0 ? StopReason::job_end
                          : StopReason::none;
  saves_ready_ = sums[4] == static_cast<double>(communicator_.size());
  clock_.add(Activity::collective, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  return sums[0];
}

/// What may still run before the next look at the clock, and saving after that. Only between steps is a stop possible.
double StopAgreement::seconds_to_stop(const RunState& state) const {
  // Nothing was saved yet: 12 bytes a parameter to a slow disk, and what small files cost.
  const double first = 1.0 + 12.0 * static_cast<double>(job_.map->parameters()) / 2e8;
  const double save = longest_save_ > 0.0 ? longest_save_ : first;
  double seconds = 2.0 * longest_step_ + 1.5 * save;
  // This step is not counted yet, and its evaluation and save come first.
  const std::int64_t step = state.step + 1;
  const data::Cursor after = sampler_.next(state.cursor).next;
  if (step >= job_.total_steps || due(job_.options.eval.eval_steps, step, after)) seconds += longest_evaluation_;
  if (due(job_.options.checkpoint.save_steps, step, after)) seconds += save;
  if (saving_) seconds += save;  // the last save waits for it
  return seconds;
}

}  // namespace spillway::train
