// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/writer.hpp"
#include "comm/communicator.hpp"
#include "core/device.hpp"
#include "offload/block_store.hpp"
#include "train/bulk_files.hpp"
#include "train/checkpoint_state.hpp"
#include "train/run_state.hpp"

namespace spillway::train {

/// A save from its beginning to its commit. A queue does what takes long: each rank's file, then on rank 0 the commit and the removal of what
/// retention does not keep. What the ranks tell one another between these is advance()'s, on the thread that trains, where all of them
/// are: between two steps. With a queue that has a thread of its own the state is the engine's snapshot, and training goes on; with one
/// that works at once it is the engine's own, and every call blocks.
class RunningSave {
 public:
  struct Parts {
    Engine& engine;
    comm::Communicator& communicator;
    offload::BlockStore& store;
    Queue& queue;
    bool beside_training = false;
  };
  /// All of `parts` outlive it. Collective. \throws AgreedFailure on every rank if the folder cannot be made
  RunningSave(const Parts& parts, const RunState& state);
  /// Gives up what is under way: it stays as a kill would leave it.
  ~RunningSave();
  RunningSave(const RunningSave&) = delete;
  RunningSave& operator=(const RunningSave&) = delete;

  /// Whether this rank's part of what is under way is over, well or not.
  [[nodiscard]] bool ready() const { return done_.ready(); }
  /// What follows, once every rank is ready; blocks until they are. Collective. \return whether the checkpoint is committed
  /// \throws AgreedFailure on every rank if any failed; the checkpoints before are as they were, and nothing of this one is left
  bool advance();
  /// Once it is committed.
  [[nodiscard]] const std::string& folder() const noexcept { return folder_; }

 private:
  void start(const std::function<void()>& work);
  void commit();

  Parts parts_;
  std::string root_;
  std::vector<std::int64_t> kept_;  // steps that retention leaves alone
  std::unique_ptr<checkpoint::StateSource> source_;
  BulkFiles bulk_;
  std::unique_ptr<checkpoint::Save> save_;
  bool committing_ = false;
  std::exception_ptr prune_error_;  // rank 0
  std::string folder_;
  Event done_;
};

}  // namespace spillway::train
