// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/shard_map.hpp"

namespace spillway::checkpoint {

/// How the bulk bytes of a checkpoint reach its files; `train` puts it over the block store. Offsets, lengths and
/// buffer addresses are multiples of 4 KiB. One thread at a time uses it.
class BulkStorage {
 public:
  virtual ~BulkStorage() = default;
  /// Writes into a file that exists and is long enough. The buffer may be used again when this returns. \throws IoError
  virtual void write(const std::string& path, std::uint64_t offset_bytes, std::span<const std::byte> bytes) = 0;
  /// Fills `bytes` from a file. \throws IoError, also where the file ends too early
  virtual void read(const std::string& path, std::uint64_t offset_bytes, std::span<std::byte> bytes) = 0;
  /// Waits for all transfers of the file, makes what was written durable (fsync) and closes it; nothing if the path is
  /// not open. After a failure too the file is closed. \throws IoError
  virtual void finish(const std::string& path) = 0;
};

/// A kind of state and how it is shared: "master" has every tensor of the model, Adafactor's "exp_avg_sq_row" a vector
/// of rows for each matrix, moments leave out what is frozen.
struct StateKind {
  std::string name;
  const ShardMap* layout = nullptr;  // lives as long as what named the kind
};

/// Where a rank's state comes from when it is saved.
class StateSource {
 public:
  virtual ~StateSource() = default;
  /// The same on every rank, in the order in which they lie in the file, all over the same number of ranks. Kinds with
  /// equal layouts need not share one ShardMap.
  [[nodiscard]] virtual std::vector<StateKind> kinds() const = 0;
  /// Copies elements `range`, counted from the start of this rank's piece of `unit` in the kind's layout, as fp32.
  /// Called unit by unit, of each kind by kind in the order of kinds(), of each in ascending order, and not for empty
  /// units. May block, on the thread that writes.
  virtual void read(const std::string& kind, int unit, Range range, std::span<float> to) = 0;
};

/// Where a rank's state goes when it is restored.
class StateSink {
 public:
  virtual ~StateSink() = default;
  /// What to restore, and how it is cut here: all kinds, or only "master" for evaluation.
  [[nodiscard]] virtual std::vector<StateKind> kinds() const = 0;
  /// Takes elements `range`, counted from the start of the piece of `unit`, in the sink's layout. Every element of
  /// every unit comes exactly once, in ascending order; padding comes as zeros.
  virtual void write(const std::string& kind, int unit, Range range, std::span<const float> from) = 0;
};

}  // namespace spillway::checkpoint
