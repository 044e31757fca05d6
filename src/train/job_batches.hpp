// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "train/job.hpp"

namespace spillway::train {

/// Sets all that follows from the configured batch sizes and the data: micro-batches, steps, the largest batches, generation.
void size_batches(Job& job, const GenerateLimits& generate);

/// Samples of a micro-batch with which this rank's part of the global batch takes the shortest predicted step; where the machine's rates
/// are not known, the most that fit. 1 if none fits. Sizes that divide the work alike count once, and of those that fit the eight
/// largest are looked at: smaller ones only add work. The job's budgets are known. Its batches and facts are to be made anew.
[[nodiscard]] std::int64_t fastest_batch(Job& job, const PlannedMachine& machine);

/// What a job that does not fit could do with, as a line for a message. The job is not to be used any more.
[[nodiscard]] std::string largest_batch_note(Job& job, const PlannedMachine& machine);

/// A batch and how long its step takes.
struct LargestBatch {
  std::int64_t samples = 0;       // of one micro-batch; 0: not even one fits
  std::optional<double> seconds;  // of a step, if the job has a profile with all of its rates
};
/// The largest micro-batch that fits the job's budgets if all sequences are as long as [data] allows, with as many micro-batches a
/// step. The job is not to be used any more.
[[nodiscard]] LargestBatch largest_batch(Job& job, const PlannedMachine& machine);

}  // namespace spillway::train
