// SPDX-License-Identifier: Apache-2.0
#include "plan/ledger.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace spillway::plan {
namespace {

constexpr std::array kTiers = {Tier::device, Tier::host, Tier::nvme};
constexpr std::array kPhases = {Phase::step, Phase::evaluation, Phase::save};

}  // namespace

const char* name_of(Tier tier) noexcept {
  switch (tier) {
    case Tier::device: return "device";
    case Tier::host: return "host";
    case Tier::nvme: return "nvme";
  }
  return "?";
}

const char* name_of(Phase phase) noexcept {
  switch (phase) {
    case Phase::step: return "step";
    case Phase::evaluation: return "evaluation";
    case Phase::save: return "save";
  }
  return "?";
}

bool LedgerEntry::in(Phase phase) const noexcept {
  return phase == Phase::step ? step : phase == Phase::evaluation ? evaluation : save;
}

void Ledger::add(LedgerEntry entry) {
  if (entry.bytes > 0) entries_.push_back(std::move(entry));
}

std::size_t Ledger::bytes(const std::string& name) const noexcept {
  std::size_t sum = 0;
  for (const Tier tier : kTiers) sum += bytes(name, tier);
  return sum;
}

std::size_t Ledger::bytes(const std::string& name, Tier tier) const noexcept {
  const auto found = std::ranges::find_if(
      entries_, [&](const LedgerEntry& entry) { return entry.name == name && entry.tier == tier; });
  return found == entries_.end() ? 0 : found->bytes;
}

std::size_t Ledger::total(Tier tier, Phase phase) const noexcept {
  std::size_t sum = 0;
  for (const LedgerEntry& entry : entries_)
    if (entry.tier == tier && entry.in(phase)) sum += entry.bytes;
  return sum;
}

std::size_t Ledger::peak(Tier tier) const noexcept {
  std::size_t peak = 0;
  for (const Phase phase : kPhases) peak = std::max(peak, total(tier, phase));
  return peak;
}

std::string Ledger::text() const {
  std::string out =
      fmt::format("{:<8} {:<34} {:>11} {:>11} {:>11}\n", "tier", "what (one rank)", "step", "evaluation", "save");
  const auto cell = [](bool held, std::size_t bytes) { return held ? bytes_text(bytes) : std::string("-"); };
  for (const Tier tier : kTiers) {
    if (peak(tier) == 0) continue;
    for (const LedgerEntry& entry : entries_)
      if (entry.tier == tier)
        out +=
            fmt::format("{:<8} {:<34} {:>11} {:>11} {:>11}\n", name_of(tier), entry.name, cell(entry.step, entry.bytes),
                        cell(entry.evaluation, entry.bytes), cell(entry.save, entry.bytes));
    out +=
        fmt::format("{:<8} {:<34} {:>11} {:>11} {:>11}\n", name_of(tier), "total", bytes_text(total(tier, Phase::step)),
                    bytes_text(total(tier, Phase::evaluation)), bytes_text(total(tier, Phase::save)));
  }
  return out;
}

std::string bytes_text(std::size_t bytes) {
  constexpr std::array units = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024.0 && unit + 1 < units.size()) {
    value /= 1024.0;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.2f} {}", value, units[unit]);
}

}  // namespace spillway::plan
