// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace spillway::plan {

enum class Tier { device, host, nvme };
enum class Phase { step, evaluation, save };

[[nodiscard]] const char* name_of(Tier tier) noexcept;
[[nodiscard]] const char* name_of(Phase phase) noexcept;

/// One line: what some memory is for, where it is, and in which phases it is held. A name may be on several tiers, once on each.
struct LedgerEntry {
  std::string name;
  Tier tier = Tier::host;
  std::size_t bytes = 0;
  bool step = true, evaluation = true, save = true;
  [[nodiscard]] bool in(Phase phase) const noexcept;
};

/// Every byte of one rank, by tier, kind and phase. `train` allocates exactly these entries, so what is printed is what is taken.
class Ledger {
 public:
  void add(LedgerEntry entry);
  [[nodiscard]] const std::vector<LedgerEntry>& entries() const noexcept { return entries_; }
  /// Bytes of the entries of that name, on all tiers or on one; 0 if there are none.
  [[nodiscard]] std::size_t bytes(const std::string& name) const noexcept;
  [[nodiscard]] std::size_t bytes(const std::string& name, Tier tier) const noexcept;
  [[nodiscard]] std::size_t total(Tier tier, Phase phase) const noexcept;
  /// The largest total of any phase.
  [[nodiscard]] std::size_t peak(Tier tier) const noexcept;
  /// A table for people, a line an entry and a line for each tier's totals.
  [[nodiscard]] std::string text() const;

 private:
  std::vector<LedgerEntry> entries_;
};

/// "1.50 GiB": three digits and a binary unit.
[[nodiscard]] std::string bytes_text(std::size_t bytes);

}  // namespace spillway::plan
