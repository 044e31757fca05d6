// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/ports.hpp"
#include "train/engine.hpp"

namespace spillway::train {

/// What lives in an engine's ShardState: the parameters, and AdamW's moments.
[[nodiscard]] std::vector<checkpoint::StateKind> sharded_kinds(const Job& job, bool optimizer_state);
/// What every rank has all of: Adafactor's means.
[[nodiscard]] std::vector<checkpoint::StateKind> replicated_kinds(const Job& job);

/// This rank's piece of an engine's state as it is when it is read: no update may be under way.
class EngineSource : public checkpoint::StateSource {
 public:
  explicit EngineSource(Engine& engine) : engine_(engine) {}
  [[nodiscard]] std::vector<checkpoint::StateKind> kinds() const override;
  void read(const std::string& kind, int unit, Range range, std::span<float> to) override;

 private:
  Engine& engine_;
};

/// The same of an engine's snapshot, for a thread that reads it while training goes on.
class SnapshotSource : public checkpoint::StateSource {
 public:
  explicit SnapshotSource(Engine& engine) : engine_(engine) {}
  /// Has the engine begin its snapshot. The thread that trains.
  void begin() { means_ = engine_.begin_snapshot(); }
  [[nodiscard]] std::vector<checkpoint::StateKind> kinds() const override;
  void read(const std::string& kind, int unit, Range range, std::span<float> to) override;

 private:
  Engine& engine_;
  std::span<const float> means_;
};

/// One piece of what a rank owns, or of what all ranks have.
class EngineSink : public checkpoint::StateSink {
 public:
  EngineSink(Engine& engine, std::vector<checkpoint::StateKind> kinds, int piece)
      : engine_(engine), kinds_(std::move(kinds)), piece_(piece) {}
  [[nodiscard]] std::vector<checkpoint::StateKind> kinds() const override { return kinds_; }
  void write(const std::string& kind, int unit, Range range, std::span<const float> from) override;

 private:
  Engine& engine_;
  std::vector<checkpoint::StateKind> kinds_;
  int piece_;
};

}  // namespace spillway::train
