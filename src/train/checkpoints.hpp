// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "checkpoint/directory.hpp"
#include "checkpoint/reader.hpp"
#include "offload/block_store.hpp"
#include "train/agreement.hpp"
#include "train/engine.hpp"
#include "train/run_state.hpp"
#include "train/running_save.hpp"

namespace spillway::train {

/// "spillway 0.1.0", for checkpoints and --version.
[[nodiscard]] std::string program_version();

/// The checkpoint that checkpoint.resume names: the newest of the folder, a path, or none. \throws DataError if a path is none
[[nodiscard]] std::optional<std::string> find_checkpoint(const CheckpointOptions& options,
                                                         const std::string& directory);

/// A checkpoint that is committed, and how long that took from its beginning, training beside it included.
struct SavedCheckpoint {
  std::string folder;
  double seconds = 0.0;
};

/// A checkpoint that is damaged, as some rank found while the state was read from it; every rank throws it.
class DamagedCheckpoint : public AgreedFailure {
 public:
  using AgreedFailure::AgreedFailure;
};

/// Saves and restores an engine's state. Collective, but for what says otherwise. Saves run beside training if the engine has a snapshot; else
/// begin() and advance() block until the work is done. Failures are AgreedFailures, the same on every rank.
class Checkpoints {
 public:
  /// \param store  of the checkpoints' bytes; null: the files that they lie in
  Checkpoints(Engine& engine, comm::Communicator& communicator, std::unique_ptr<offload::BlockStore> store = nullptr);

  /// Begins to save the state as the last step leaves it; what retention does not keep goes after the commit. There is one save at a time.
  void begin(const RunState& state);
  [[nodiscard]] bool under_way() const noexcept { return running_ != nullptr; }
  [[nodiscard]] bool beside_training() const { return engine_.snapshot() != nullptr; }
  /// Whether a save is under way of which this rank's next part is done: when all ranks are ready, advance(). Not collective.
  [[nodiscard]] bool ready() const { return running_ && running_->ready(); }
  /// Takes the save under way a stage further. \return the checkpoint, if that was the last
  std::optional<SavedCheckpoint> advance();
  /// Blocks until the save under way is over.
  SavedCheckpoint finish();
  /// begin() and finish(). \return the folder
  std::string save(const RunState& state);
  /// Fills weights and moments from a checkpoint of any rank count and stage. \throws DamagedCheckpoint
  void restore(const std::string& folder);
  /// Fills the weights alone.
  void restore_weights(const std::string& folder);

 private:
  /// This rank's part. Not collective.
  void read(const std::string& folder, bool moments);

  Engine& engine_;
  comm::Communicator& communicator_;
  std::unique_ptr<offload::BlockStore> store_;
  std::unique_ptr<Queue> queue_;  // of saves
  std::chrono::steady_clock::time_point start_;
  std::unique_ptr<RunningSave> running_;  // last: it uses all of the above
};

}  // namespace spillway::train
