// SPDX-License-Identifier: Apache-2.0
#include "train/checkpoints.hpp"

#include <array>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "checkpoint/damage.hpp"
#include "checkpoint/files.hpp"
#include "core/error.hpp"
#include "train/bulk_files.hpp"
#include "train/checkpoint_state.hpp"

namespace spillway::train {

std::string program_version() { return "spillway " SPILLWAY_VERSION; }

std::optional<std::string> find_checkpoint(const CheckpointOptions& options, const std::string& directory) {
  if (options.resume == "none") return std::nullopt;
  if (options.resume == "auto") {
    const auto newest = checkpoint::latest(directory);
    return newest ? std::optional(newest->path) : std::nullopt;
  }
  if (checkpoint::type_of_input(options.resume) != std::filesystem::file_type::directory)
    throw DataError(fmt::format("{}: no such checkpoint (checkpoint.resume)", options.resume));
  return options.resume;
}

Checkpoints::Checkpoints(Engine& engine, comm::Communicator& communicator, std::unique_ptr<offload::BlockStore> store)
    : engine_(engine),
      communicator_(communicator),
      // Checkpoints go through the page cache: they are small beside it and must be durable, not streaming.
      store_(store ? std::move(store) : offload::make_posix_store({.queue_depth = 4, .direct = false})),
      queue_(engine.snapshot() != nullptr ? engine.device().create_worker_queue("checkpoint")
                                          : make_host_device()->create_compute_queue()) {}

void Checkpoints::begin(const RunState& state) {
  if (running_) throw Error("a checkpoint is begun while another is written");
  start_ = std::chrono::steady_clock::now();
  running_ = std::make_unique<RunningSave>(
      RunningSave::Parts{engine_, communicator_, *store_, *queue_, beside_training()}, state);
}

std::optional<SavedCheckpoint> Checkpoints::advance() {
  std::unique_ptr<RunningSave> running = std::move(running_);  // what fails is over: nobody waits for it again
  if (!running->advance()) {
    running_ = std::move(running);
    return std::nullopt;
  }
  return SavedCheckpoint{running->folder(),
                         std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count()};
}

SavedCheckpoint Checkpoints::finish() {
  for (;;)
    if (std::optional<SavedCheckpoint> saved = advance()) return *std::move(saved);
}

std::string Checkpoints::save(const RunState& state) {
  begin(state);
  return finish().folder;
}

void Checkpoints::restore(const std::string& folder) {
  bool damaged = false;
  try {
    agree(communicator_, [&] {
      try {
        read(folder, true);
      } catch (const checkpoint::Damage&) {
        damaged = true;
        throw;
      }
    });
  } catch (const AgreedFailure& failure) {
    const std::array<double, 1> mine = {static_cast<double>(damaged)};
    if (comm::ordered_sum(communicator_, mine).front() == 0.0) throw;
    throw DamagedCheckpoint(failure.what(), failure.exit_code());
  }
}

void Checkpoints::restore_weights(const std::string& folder) {
  agree(communicator_, [&] { read(folder, false); });
}

void Checkpoints::read(const std::string& folder, bool optimizer_state) {
  const Job& job = engine_.job();
  checkpoint::CheckpointReader reader(folder);
  BulkFiles bulk(*store_);
  const int copies = job.zero.copies();
  for (int piece = job.zero.shard * copies; piece < (job.zero.shard + 1) * copies; ++piece) {
    EngineSink sink(engine_, sharded_kinds(job, optimizer_state), piece);
    reader.read_shard(piece, bulk, sink);
  }
  if (optimizer_state && job.adafactor)
    for (int piece = 0; piece < job.map->ranks(); ++piece) {
      EngineSink sink(engine_, replicated_kinds(job), piece);
      reader.read_shard(piece, bulk, sink);
    }
  engine_.weights_changed();
}

}  // namespace spillway::train
