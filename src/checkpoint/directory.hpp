// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace spillway::checkpoint {

/// A committed checkpoint of a root folder.
struct CheckpointEntry {
  std::string path;
  std::int64_t step = 0;
  std::int64_t sequence = 0;  // ascends with every commit
  int world_size = 1;
};

/// The committed checkpoints whose manifest matches its own hash, in the order of their commit. Others are named in a
/// warning and left out; folders being written are ignored. A root that does not exist has none. \throws IoError if it
/// cannot be read
[[nodiscard]] std::vector<CheckpointEntry> list(const std::string& root);
/// Whether anything was ever committed that is still there, though its manifest may be damaged. \throws IoError as list
[[nodiscard]] bool holds_any(const std::string& root);

/// The one that was committed last. The manifests decide, not LATEST: a kill between a commit and its LATEST loses
/// nothing.
[[nodiscard]] std::optional<CheckpointEntry> latest(const std::string& root);

/// Removes the oldest committed checkpoints so that `keep` are left, not counting those of the steps in
/// `protected_steps`, which always stay, as does the one committed last. keep <= 0 removes nothing.
/// \return the folders removed  \throws IoError
std::vector<std::string> prune(const std::string& root, int keep, const std::vector<std::int64_t>& protected_steps);

/// Makes ROOT/step-N.tmp/ anew for a save, without what earlier saves left when they were killed.
/// \return its path  \throws IoError
[[nodiscard]] std::string prepare_folder(const std::string& root, std::int64_t step);

/// Renames ROOT/step-N.tmp/, complete and durable, to ROOT/step-N/, which it replaces if that exists, then writes
/// LATEST. At every instant the folder is the old or the new one. \return its path  \throws IoError
std::string commit_folder(const std::string& root, std::int64_t step);

/// Removes ROOT/step-N.tmp/ of a save that failed. \throws IoError
void discard_folder(const std::string& root, std::int64_t step);

}  // namespace spillway::checkpoint
