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
#include "core/shard_map.hpp"

namespace spillway::checkpoint {

/// One save. The root, the step, the shards' layout, the metadata and the kinds are the same on every rank.
struct WriteRequest {
  std::string root;  // holds the step folders; made if it is not there
  std::int64_t step = 0;
  const ShardMap& shards;
  std::string metadata;  // JSON text of the run, given back as it is by CheckpointReader::metadata
  std::string creator;   // the program and its version
  StateSource& source;
  BulkStorage& bulk;
  std::size_t staging_bytes = std::size_t{4} << 20;  // in transit, allocated for the save; at least 1 MiB is used
};

/// Saves every rank's state as ROOT/step-N/. Blocks until the checkpoint is durable and LATEST names it. Collective.
/// \return the folder
/// \throws IoError on every rank if one of them failed, with that rank and its message; then the checkpoints that were
///          there are as they were and nothing of this one is left (unless only LATEST could not be written).
///          CommunicationError if the group broke.
std::string write_checkpoint(comm::Communicator& communicator, const WriteRequest& request);

/// The parts of write_checkpoint between its exchanges, in order; prepare_folder (rank 0) comes first.
/// Every rank: its own file in `folder`.
[[nodiscard]] FileRecord write_rank_part(const std::string& folder, const WriteRequest& request, int rank);
/// Rank 0: checkpoint.h5 and manifest.json. \param rank_files  of every rank, in rank order
void write_root_part(const std::string& folder, const WriteRequest& request, std::span<const FileRecord> rank_files);
// Rank 0 then calls commit_folder.

}  // namespace spillway::checkpoint
