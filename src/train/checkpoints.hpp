// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "checkpoint/directory.hpp"
#include "checkpoint/reader.hpp"
#include "offload/block_store.hpp"
#include "train/engine.hpp"
#include "train/run_state.hpp"

namespace spillway::train {

/// "spillway 0.1.0", for checkpoints and --version.
[[nodiscard]] std::string program_version();

/// The checkpoint that checkpoint.resume names: the newest of the folder, a path, or none. \throws DataError if a path is none
[[nodiscard]] std::optional<std::string> find_checkpoint(const CheckpointOptions& options,
                                                         const std::string& directory);

/// Saves and restores an engine's state. Collective.
class Checkpoints {
 public:
  explicit Checkpoints(Engine& engine, comm::Communicator& communicator);

  /// Waits for the update in the background, saves, and removes what retention does not keep. \return the folder
  std::string save(const RunState& state);
  /// Fills weights and moments from a checkpoint of any rank count and stage.
  void restore(const std::string& folder);
  /// Fills the weights alone.
  void restore_weights(const std::string& folder);

 private:
  void read(const std::string& folder, bool moments);

  Engine& engine_;
  comm::Communicator& communicator_;
  std::unique_ptr<offload::BlockStore> store_;
};

}  // namespace spillway::train
