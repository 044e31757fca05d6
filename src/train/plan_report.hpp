// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "train/job_batches.hpp"

namespace spillway::train {

/// What `spillway plan` says besides the job's ledger.
struct PlanReport {
  double checkpoint_bytes = 0.0;       // of all ranks
  std::optional<double> save_seconds;  // if checkpoints go to the profile's drives
  std::optional<double> lead_seconds;  // from a signal to the committed checkpoint: a step and a save
  std::string late_signal;             // what to say if Slurm's signal leaves less
  std::optional<double>
      nvme_bytes_a_day;  // written to the drives of a node; none: nothing is on drives, or nothing predicted
  std::optional<double> endurance_days;  // that the drives last at that rate, if their endurance is known
  LargestBatch largest;
};

/// Of a job that plan_job made. largest_batch() is asked last: afterwards the job is not to be used any more.
[[nodiscard]] PlanReport report_of(const Job& job);

/// For people: how long a step takes and what it keeps busy.
[[nodiscard]] std::string prediction_text(const Job& job);
/// For people: the rest.
[[nodiscard]] std::string report_text(const PlanReport& report, const DataOptions& data);
/// \param plan  plan_json() of the job; \return it with the report's keys
[[nodiscard]] std::string report_json(const std::string& plan, const PlanReport& report);

}  // namespace spillway::train
