// SPDX-License-Identifier: Apache-2.0
#include "train/arena.hpp"

#include <set>

namespace spillway::train {

Arena::Arena(Device& device, const plan::Ledger& ledger) {
  // What others allocate, and is in the ledger because it takes memory too.
  const std::set<std::string> elsewhere = {plan::entry::kProgram,   plan::entry::kData,      plan::entry::kReduce,
                                           plan::entry::kStaging,   plan::entry::kWorkspace, plan::entry::kContext,
                                           plan::entry::kPageTables};
  for (const plan::LedgerEntry& entry : ledger.entries()) {
    if (entry.tier == plan::Tier::nvme || elsewhere.contains(entry.name)) continue;
    const MemoryKind kind = entry.tier == plan::Tier::device ? MemoryKind::device : MemoryKind::pinned_host;
    buffers_.emplace(std::pair{entry.name, entry.tier}, std::pair{device.allocate(kind, entry.bytes), entry.bytes});
  }
}

TensorView Arena::bytes(const std::string& name) const {
  const TensorView on_device = bytes(name, plan::Tier::device);
  return on_device ? on_device : bytes(name, plan::Tier::host);
}

TensorView Arena::bytes(const std::string& name, plan::Tier tier) const {
  const auto found = buffers_.find({name, tier});
  if (found == buffers_.end()) return {};
  return {found->second.first.data(), DType::u8, {static_cast<std::int64_t>(found->second.second)}};
}

}  // namespace spillway::train
