// SPDX-License-Identifier: Apache-2.0
#include "train/checkpoints.hpp"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "checkpoint/writer.hpp"
#include "core/error.hpp"
#include "train/agreement.hpp"
#include "train/bulk_files.hpp"

namespace spillway::train {
namespace {

constexpr const char* kMaster = "master";

/// The moment of a kind's name.
Moment moment_of(const std::string& kind) {
  for (std::size_t moment = 0; moment < kMoments; ++moment)
    if (kind == kMomentNames[moment]) return static_cast<Moment>(moment);
  throw Error(fmt::format("there is no state of kind {}", kind));
}

std::vector<std::string> kinds_of(bool moments) {
  std::vector<std::string> kinds = {kMaster};
  if (moments) kinds.insert(kinds.end(), kMomentNames.begin(), kMomentNames.end());
  return kinds;
}

/// The engine's shards as a checkpoint reads them. Ranges count from the shard's start, the engine's from what a rank owns.
class EngineSource : public checkpoint::StateSource {
 public:
  explicit EngineSource(Engine& engine) : engine_(engine) {}
  [[nodiscard]] std::vector<std::string> kinds() const override { return kinds_of(true); }
  void read(const std::string& kind, int unit, Range range, std::span<float> to) override {
    if (kind == kMaster) {
      const auto shard = engine_.parameters().shard(unit).as<float>();
      std::ranges::copy(shard.subspan(static_cast<std::size_t>(range.begin), static_cast<std::size_t>(range.size())),
                        to.begin());
      return;
    }
    const std::int64_t start = engine_.job().zero.shard_in_owned(unit).begin;
    engine_.optimizer()->read(moment_of(kind), unit, {start + range.begin, start + range.end}, to);
  }

 private:
  Engine& engine_;
};

/// What this rank owns, filled by a checkpoint. Under stage 0 that is the shards of every rank.
class EngineSink : public checkpoint::StateSink {
 public:
  EngineSink(Engine& engine, int shard_of, bool moments) : engine_(engine), shard_of_(shard_of), moments_(moments) {}
  [[nodiscard]] std::vector<std::string> kinds() const override { return kinds_of(moments_); }
  void write(const std::string& kind, int unit, Range range, std::span<const float> from) override {
    const Zero& zero = engine_.job().zero;
    const std::int64_t start = zero.map->shard(unit, shard_of_).begin - zero.owned(unit).begin;
    const Range owned{start + range.begin, start + range.end};
    if (kind == kMaster) {
      std::ranges::copy(from, engine_.parameters().owned(unit).as<float>().begin() + owned.begin);
      return;
    }
    engine_.optimizer()->write(moment_of(kind), unit, owned, from);
  }

 private:
  Engine& engine_;
  int shard_of_;
  bool moments_;
};

}  // namespace

std::string program_version() { return "spillway " SPILLWAY_VERSION; }

std::optional<std::string> find_checkpoint(const CheckpointOptions& options, const std::string& directory) {
  if (options.resume == "none") return std::nullopt;
  if (options.resume == "auto") {
    const auto newest = checkpoint::latest(directory);
    return newest ? std::optional(newest->path) : std::nullopt;
  }
  if (!std::filesystem::is_directory(options.resume))
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
  const std::string root = engine_.job().checkpoint_dir();
  std::string folder;
  try {
    folder = checkpoint::write_checkpoint(communicator_, {.root = root,
                                                          .step = state.step,
                                                          .shards = *engine_.job().map,
                                                          .metadata = to_json(state),
                                                          .creator = program_version(),
                                                          .source = source,
                                                          .bulk = bulk});
  } catch (const IoError& error) {
    throw AgreedFailure(error.what(), error.exit_code());  // the writer throws it on all ranks alike
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

void Checkpoints::read(const std::string& folder, bool moments) {
  agree(communicator_, [&] {
    const Zero& zero = engine_.job().zero;
    checkpoint::CheckpointReader reader(folder);
    BulkFiles bulk(*store_);
    const int first = zero.sharded() ? zero.rank : 0;
    const int last = zero.sharded() ? zero.rank : zero.map->ranks() - 1;
    for (int shard = first; shard <= last; ++shard) {
      EngineSink sink(engine_, shard, moments);
      reader.read_shard(*zero.map, shard, bulk, sink);
    }
    // What was gathered before is void.
    for (int unit = 0; unit < zero.map->units(); ++unit) engine_.parameters().updating(unit, Event());
    engine_.finish_update();
  });
}

}  // namespace spillway::train
