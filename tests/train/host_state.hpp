// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ostream>
#include <vector>

#include "plan/plan.hpp"
#include "train/job.hpp"

namespace spillway::test {

/// What of a run lies in host memory beside a GPU.
enum class HostState {
  weights,
  gradients,
  everything,
  by_unit,  // of every other unit weights, or gradients, and half of the masters; some state on nvme besides
  planned   // what the plan sends there because the device has too little memory: some units' weights and gradients
};
inline constexpr HostState kAllHostStates[] = {HostState::weights, HostState::gradients, HostState::everything,
                                               HostState::by_unit, HostState::planned};
std::ostream& operator<<(std::ostream& out, HostState state);

/// Gives the job the plan of a shape in which that lies there, as beside a GPU: a job on the host then plays one. Gradients of several groups stay
/// in device memory.
void move_to_host(train::Job& job, HostState state, const plan::Shape& shape);

}  // namespace spillway::test
