// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "train/engine.hpp"
#include "train/run_state.hpp"
#include "train/stop_request.hpp"

namespace spillway::train {

/// How a run ended.
enum class Outcome { finished, stopped };

/// What a run is told besides its options.
struct TrainRequest {
  RunOptions options;
  ConfigRecord config;
  bool dry_run = false;                                                       // print the plan and stop
  bool progress_bar = false;                                                  // standard error is a terminal
  std::function<void(const std::string&)> print = [](const std::string&) {};  // results, on rank 0
};

/// Trains: reads model and data, plans, resumes if there is something to resume from, steps, evaluates, saves, exports. Collective.
/// \return stopped: after a signal, or near train.time_limit or the end of the Slurm job, with a checkpoint and OUTPUT_DIR/REQUEUE
Outcome train(const TrainRequest& request, Runtime& runtime);

}  // namespace spillway::train
