// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

#include "train/same_bits_suite.hpp"

namespace spillway::test {

/// What a run leaves that saves one step.
struct SavedRun {
  std::map<std::string, std::string> files;  // the bytes of the checkpoint's rank files, by name
  StateHashes tensors;                       // of the checkpoint
  StateHashes state;                         // at the end of the run
  bool operator==(const SavedRun&) const = default;
};

/// The step that is saved.
inline constexpr int kSavedStep = 3;
/// Where it is saved, of runs in a folder.
[[nodiscard]] std::string saved_checkpoint(const std::string& folder);

/// A placed run that saves a step: blocking, before the next steps begin, or beside all of them. \param ranks  1 if there are a device and
/// switches
[[nodiscard]] SavedRun run_and_save(const std::string& folder, int ranks, const Numerics& numerics,
                                    const Placement& placement, train::Saving saving, Device* gpu = nullptr,
                                    train::EngineSwitches switches = {});

/// Expects that a checkpoint is whole, and of that step.
void expect_valid_checkpoint(const std::string& checkpoint, int step);

}  // namespace spillway::test
