// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "train/run_state.hpp"

namespace spillway::train {

/// Where a run goes on.
struct ResumePoint {
  std::string folder;
  RunState state;
};

/// What checkpoint.resume names, as rank 0 sees it, on every rank. One exception: "none" and a path say where a run begins, so when
/// the newest checkpoint in its folder was left by a stop of a run with the same checkpoint.resume, that one is taken, which the log
/// says: the same command again goes on. With "auto", checkpoints that are damaged are passed over, loudly. Collective.
/// \param damaged  folders that were found so already
/// \throws AgreedFailure if none is left, or the one named is damaged
[[nodiscard]] std::optional<ResumePoint> find_resume_point(const RunOptions& options, const ConfigRecord& config,
                                                           const std::vector<std::string>& damaged,
                                                           comm::Communicator& communicator);

/// Whether output_dir has the model and the results of exactly this state, written to their end. Reads files.
[[nodiscard]] bool has_results(const RunOptions& options, const RunState& state);
/// Says that it has; \throws IoError. And that from now on it may not.
void mark_results(const RunOptions& options, const RunState& state);
void unmark_results(const RunOptions& options);

/// Ranks that would run different programs, from different steps or on different data must not begin: they would wait for each
/// other for ever, or mix. Collective. \throws AgreedFailure with what differs
void compare_ranks(const Job& job, const ContentRecord& contents, std::int64_t step, comm::Communicator& communicator);

}  // namespace spillway::train
