// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "comm/communicator.hpp"
#include "data/sampler.hpp"
#include "train/job.hpp"
#include "train/run_state.hpp"
#include "train/step_clock.hpp"
#include "train/stop_request.hpp"

namespace spillway::train {

/// Whether all ranks are to stop, because any of them was asked to, or train.time_limit or the end of the Slurm job is near: how near is too near, it learns from
/// how long steps, evaluations and saves take.
class StopAgreement {
 public:
  /// Keeps the references. \param clock  where the exchange is counted
  StopAgreement(const StopRequest& request, const Job& job, const data::BatchSampler& sampler,
                comm::Communicator& communicator, StepClock& clock)
      : request_(request), job_(job), sampler_(sampler), communicator_(communicator), clock_(clock) {}

  /// What this rank measured, in seconds.
  void step_took(double seconds);
  void evaluation_took(double seconds);
  /// A save goes on beside training from now on, until save_took().
  void save_began() { saving_ = true; }
  /// The same as for steps, and says once if Slurm's signal leaves too little time for a save.
  void save_took(double seconds);

  /// Asks every rank, once a step, before the step is counted in `state`. Collective.
  /// \param save_ready  this rank's part of the save under way is done
  /// \return the sum of `mine` over the ranks, who know afterwards whether any of them has a reason to stop
  double share(double mine, const RunState& state, bool save_ready = false);
  /// Whether the last call found every rank's part of a save done.
  [[nodiscard]] bool saves_ready() const noexcept { return saves_ready_; }
  /// The reason that was found when it was last asked for, the same on every rank.
  [[nodiscard]] StopReason seen() const noexcept { return seen_; }

 private:
  [[nodiscard]] double seconds_to_stop(const RunState& state) const;

  const StopRequest& request_;
  const Job& job_;
  const data::BatchSampler& sampler_;
  comm::Communicator& communicator_;
  StepClock& clock_;
  StopReason seen_ = StopReason::none;
  bool warned_ = false;
  bool saving_ = false, saves_ready_ = false;
  double longest_step_ = 0.0, longest_save_ = 0.0, longest_evaluation_ = 0.0;
};

}  // namespace spillway::train
