// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/damage.hpp"
#include "checkpoint/ports.hpp"
#include "checkpoint/rank_file.hpp"
#include "checkpoint/staging.hpp"

namespace spillway::checkpoint {

/// Reads ranges of bulk datasets in whole hash blocks, checks each block, and keeps the last ones: reading small pieces
/// in ascending order reads and checks every block once. Closes its files when it goes away.
class BlockReader {
 public:
  /// \param staging_bytes  blocks read and kept at a time
  BlockReader(BulkStorage& bulk, std::size_t staging_bytes) : bulk_(bulk), staging_(staging_bytes) {}
  ~BlockReader();
  BlockReader(const BlockReader&) = delete;
  BlockReader& operator=(const BlockReader&) = delete;

  /// Elements [begin, begin + to.size()) of `dataset`, which must outlive the reader.
  /// \throws DamagedBlock with file, MiB and dataset if a hash differs, IoError
  void read(const StoredDataset& dataset, std::int64_t begin, std::span<float> to);

  /// Checks every block. \return those that differ  \throws IoError
  [[nodiscard]] std::vector<DamagedBlock> check(const StoredDataset& dataset);

 private:
  void load(const StoredDataset& dataset, std::size_t first, std::size_t last);
  [[nodiscard]] std::optional<DamagedBlock> difference(const StoredDataset& dataset, std::size_t block) const;

  BulkStorage& bulk_;
  Staging staging_;
  std::set<std::string> open_;
  const StoredDataset* loaded_ = nullptr;  // the blocks [first_, end_) of it are in staging_
  std::size_t first_ = 0;
  std::size_t end_ = 0;
};

}  // namespace spillway::checkpoint
