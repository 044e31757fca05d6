// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/manifest.hpp"
#include "checkpoint/ports.hpp"
#include "comm/communicator.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {

/// One save. The root, the step, the metadata and the kinds with their layouts are the same on every rank.
struct WriteRequest {
  std::string root;  // holds the step folders; made if it is not there
  std::int64_t step = 0;
  int piece = 0;         // which piece of every unit this rank gives: each number below the ranks once over the ranks
  std::string metadata;  // JSON text of the run, given back as it is by CheckpointReader::metadata
  std::string creator;   // the program and its version
  StateSource& source;
  BulkStorage& bulk;
  std::size_t staging_bytes = std::size_t{4} << 20;  // in transit, allocated for the save; at least 1 MiB is used
};

/// A save that failed, thrown on every rank alike: the message names the ranks that failed and why, the exit code is
/// that of the lowest of them.
class SaveFailure : public Error {
 public:
  using Error::Error;
};

/// Saves every rank's state as ROOT/step-N/. Blocks until the checkpoint is durable and LATEST names it. Collective.
/// \return the folder
/// \throws SaveFailure on every rank if one of them failed; then the checkpoints that were there are as they were and
///          nothing of this one is left (unless only LATEST could not be written). CommunicationError if the group
///          broke.
std::string write_checkpoint(comm::Communicator& communicator, const WriteRequest& request);

/// The parts of write_checkpoint between its exchanges, in order; prepare_folder (rank 0) comes first.
/// Every rank: the file of its piece in `folder`.
[[nodiscard]] FileRecord write_rank_part(const std::string& folder, const WriteRequest& request);
/// Rank 0: checkpoint.h5 and manifest.json. \param rank_files  of every piece, in any order
void write_root_part(const std::string& folder, const WriteRequest& request, std::span<const FileRecord> rank_files);
// Rank 0 then calls commit_folder.

}  // namespace spillway::checkpoint
