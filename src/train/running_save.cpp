// SPDX-License-Identifier: Apache-2.0
#include "train/running_save.hpp"

#include <utility>

#include "checkpoint/directory.hpp"
#include "train/agreement.hpp"
#include "train/checkpoints.hpp"

namespace spillway::train {
namespace {

template <typename Work>
auto agreed(Work work) {
  try {
    return work();
  } catch (const checkpoint::SaveFailure& error) {
    throw AgreedFailure(error.what(), error.exit_code());  // the same on all ranks
  }
}

}  // namespace

RunningSave::RunningSave(const Parts& parts, const RunState& state)
    : parts_(parts), root_(parts.engine.job().options.checkpoint_dir()), bulk_(parts.store) {
  Engine& engine = parts_.engine;
  if (state.best_step >= 0) kept_.push_back(state.best_step);
  SnapshotSource* snapshot = nullptr;
  if (parts_.beside_training) {
    auto source = std::make_unique<SnapshotSource>(engine);
    snapshot = source.get();
    source_ = std::move(source);
  } else {
    engine.finish_update();
    source_ = std::make_unique<EngineSource>(engine);
  }
  save_ = agreed([&] {
    return std::make_unique<checkpoint::Save>(parts_.communicator,
                                              checkpoint::WriteRequest{.root = root_,
                                                                       .step = state.step,
                                                                       .piece = engine.job().zero.piece(),
                                                                       .metadata = to_json(state),
                                                                       .creator = program_version(),
                                                                       .source = *source_,
                                                                       .bulk = bulk_});
  });
  if (snapshot != nullptr) snapshot->begin();
  start([this] {
    save_->write_part();
    // However that went, nobody reads on.
    if (parts_.beside_training) parts_.engine.snapshot()->give_up();
  });
}

RunningSave::~RunningSave() {
  if (parts_.beside_training && parts_.engine.snapshot() != nullptr) parts_.engine.snapshot()->give_up();
  done_.wait_quietly();
}

void RunningSave::start(const std::function<void()>& work) {
  parts_.queue.submit(work);
  done_ = parts_.queue.record();
}

bool RunningSave::advance() {
  done_.wait();
  if (!std::exchange(committing_, true)) {
    agreed([&] { save_->share_parts(); });
    start([this] { commit(); });
    return false;
  }
  folder_ = agreed([&] { return save_->finish(); });
  agree(parts_.communicator, [&] {
    if (prune_error_) std::rethrow_exception(prune_error_);
  });
  return true;
}

/// On the queue, so that nothing may be thrown.
void RunningSave::commit() {
  save_->commit();
  if (!save_->committed()) return;
  try {
    checkpoint::prune(root_, static_cast<int>(parts_.engine.job().options.checkpoint.save_total_limit), kept_);
  } catch (...) {
    prune_error_ = std::current_exception();
  }
}

}  // namespace spillway::train
