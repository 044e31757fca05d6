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

/// A save in stages, so that the two long ones may run beside other work, on another thread: they neither communicate nor throw.
/// The others are collective: what failed on one rank in the stage before, all ranks throw there, and then the checkpoints that were
/// there are as they were and nothing of this one is left (unless only LATEST could not be written). A save that is given up in
/// between leaves what a kill leaves: a folder that nobody reads and the next save removes.
class Save {
 public:
  /// Agrees on the pieces and makes the folder. Collective. \throws SaveFailure; CommunicationError if the group broke
  Save(comm::Communicator& communicator, WriteRequest request);

  /// The file of this rank's piece. On any thread.
  void write_part() noexcept;
  /// Tells every rank of every file. Collective. \throws as the constructor
  void share_parts();
  /// Rank 0: the rest of the files, and the commit; nothing on others. On any thread, after share_parts().
  void commit() noexcept;
  /// Whether commit() did its work, on rank 0.
  [[nodiscard]] bool committed() const noexcept { return !outcome_.text.empty() && outcome_.code == ExitCode::done; }
  /// Tells every rank of the commit. Collective. \return the folder \throws as the constructor
  std::string finish();

 private:
  /// How work went on a rank: what it returned, or why it failed.
  struct Outcome {
    std::string text;
    ExitCode code = ExitCode::done;
  };
  template <typename Work>
  static Outcome outcome_of(Work work);
  [[nodiscard]] bool is_root() const { return communicator_.rank() == 0; }
  std::vector<std::string> together(const Outcome& mine);
  void discard(const SaveFailure& failure);

  comm::Communicator& communicator_;
  WriteRequest request_;
  std::string folder_;
  std::vector<std::string> records_;  // every rank's, of its file
  Outcome outcome_;                   // of the last stage without an exchange
};

/// Saves every rank's state as ROOT/step-N/: all stages of a Save. Blocks until the checkpoint is durable and LATEST names it. Collective.
/// \return the folder \throws as Save
std::string write_checkpoint(comm::Communicator& communicator, const WriteRequest& request);

/// The parts of a save between its exchanges, in order; prepare_folder (rank 0) comes first.
/// Every rank: the file of its piece in `folder`.
[[nodiscard]] FileRecord write_rank_part(const std::string& folder, const WriteRequest& request);
/// Rank 0: checkpoint.h5 and manifest.json. \param rank_files  of every piece, in any order
void write_root_part(const std::string& folder, const WriteRequest& request, std::span<const FileRecord> rank_files);
// Rank 0 then calls commit_folder.

}  // namespace spillway::checkpoint
