// SPDX-License-Identifier: Apache-2.0
#include "train/checkpoints.hpp"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "checkpoint/files.hpp"
#include "checkpoint/writer.hpp"
#include "core/error.hpp"
#include "train/agreement.hpp"
#include "train/bulk_files.hpp"

namespace spillway::train {
namespace {

const std::string kMaster = name_of(StateKind::master);

/// What lives in the engine's ShardState: the parameters, and AdamW's moments.
std::vector<checkpoint::StateKind> sharded_kinds(const Job& job, bool optimizer_state) {
  std::vector<checkpoint::StateKind> kinds = {{kMaster, job.map.get()}};
  if (optimizer_state && !job.adafactor)
    for (const StateKind moment : {StateKind::exp_avg, StateKind::exp_avg_sq})
      kinds.push_back({name_of(moment), job.trainable_map.get()});
  return kinds;
}

/// What every rank has all of.
std::vector<checkpoint::StateKind> replicated_kinds(const Job& job) {
  std::vector<checkpoint::StateKind> kinds;
  if (job.adafactor)
    for (const std::string& kind : job.adafactor->kinds()) kinds.push_back({kind, &job.adafactor->layout(kind)});
  return kinds;
}

std::span<float> part_of(const AdafactorState& state, const std::string& kind, int unit, int piece, Range range) {
  const std::int64_t begin = state.layout(kind).shard(unit, piece).begin + range.begin;
  return state.values(kind).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(range.size()));
}

/// This rank's piece of everything. Ranges count from the piece's start, the engine's from what a rank owns.
class EngineSource : public checkpoint::StateSource {
 public:
  explicit EngineSource(Engine& engine) : engine_(engine) {}

  [[nodiscard]] std::vector<checkpoint::StateKind> kinds() const override {
    std::vector<checkpoint::StateKind> kinds = sharded_kinds(engine_.job(), true);
    for (const checkpoint::StateKind& kind : replicated_kinds(engine_.job())) kinds.push_back(kind);
    return kinds;
  }
  void read(const std::string& kind, int unit, Range range, std::span<float> to) override {
    const Job& job = engine_.job();
    if (job.adafactor && kind != kMaster) {
      std::ranges::copy(part_of(*job.adafactor, kind, unit, job.zero.piece(), range), to.begin());
      return;
    }
    const std::int64_t begin = job.zero.piece_in_owned(unit).begin;
    engine_.state().read(kind, unit, {begin + range.begin, begin + range.end}, to);
  }

 private:
  Engine& engine_;
};

/// One piece of what this rank owns, or of what all ranks have.
class EngineSink : public checkpoint::StateSink {
 public:
  EngineSink(Engine& engine, std::vector<checkpoint::StateKind> kinds, int piece)
      : engine_(engine), kinds_(std::move(kinds)), piece_(piece) {}

  [[nodiscard]] std::vector<checkpoint::StateKind> kinds() const override { return kinds_; }
  void write(const std::string& kind, int unit, Range range, std::span<const float> from) override {
    const Job& job = engine_.job();
    if (job.adafactor && kind != kMaster) {
      std::ranges::copy(from, part_of(*job.adafactor, kind, unit, piece_, range).begin());
      return;
    }
    const std::int64_t begin = job.map->shard(unit, piece_).begin - job.zero.owned(unit).begin;
    engine_.state().write(kind, unit, {begin + range.begin, begin + range.end}, from);
  }

 private:
  Engine& engine_;
  std::vector<checkpoint::StateKind> kinds_;
  int piece_;
};

}  // namespace

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

Checkpoints::Checkpoints(Engine& engine, comm::Communicator& communicator)
    : engine_(engine),
      communicator_(communicator),
      // Checkpoints go through the page cache: they are small beside it and must be durable, not streaming.
      store_(offload::make_posix_store({.queue_depth = 4, .direct = false})) {}

std::string Checkpoints::save(const RunState& state) {
  engine_.finish_update();
  const CheckpointOptions& options = engine_.job().options.checkpoint;
  EngineSource source(engine_);
  BulkFiles bulk(*store_);
  const std::string root = engine_.job().options.checkpoint_dir();
  std::string folder;
  try {
    folder = checkpoint::write_checkpoint(communicator_, {.root = root,
                                                          .step = state.step,
                                                          .piece = engine_.job().zero.piece(),
                                                          .metadata = to_json(state),
                                                          .creator = program_version(),
                                                          .source = source,
                                                          .bulk = bulk});
  } catch (const checkpoint::SaveFailure& error) {
    throw AgreedFailure(error.what(), error.exit_code());  // the same on all ranks
  }
  agree(communicator_, [&] {
    std::vector<std::int64_t> kept;
    if (state.best_step >= 0) kept.push_back(state.best_step);
    if (communicator_.rank() == 0) checkpoint::prune(root, static_cast<int>(options.save_total_limit), kept);
  });
  return folder;
}

void Checkpoints::restore(const std::string& folder) { read(folder, true); }
void Checkpoints::restore_weights(const std::string& folder) { read(folder, false); }

void Checkpoints::read(const std::string& folder, bool optimizer_state) {
  agree(communicator_, [&] {
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
  });
}

}  // namespace spillway::train
