// SPDX-License-Identifier: Apache-2.0
#include "plan/shortage.hpp"

#include <optional>
#include <vector>

#include <fmt/format.h>

#include "core/round_up.hpp"

namespace spillway::plan {
namespace {

// More than any machine has. Sums of several still fit a size_t.
constexpr std::size_t kEnough = std::size_t{1} << 56;
// What a message is exact to: budgets are found by halving.
constexpr std::size_t kStep = std::size_t{1} << 20;

/// The least number of whole kSteps from `least` on with which it fits, if any.
std::optional<std::size_t> smallest(std::size_t least, const std::function<bool(std::size_t)>& fits) {
  if (!fits(kEnough)) return std::nullopt;
  std::size_t too_little = least / kStep, enough = kEnough / kStep;
  while (enough - too_little > 1) {
    const std::size_t middle = too_little + (enough - too_little) / 2;
    (fits(middle * kStep) ? enough : too_little) = middle;
  }
  return enough * kStep;
}

/// A size that may be written into the configuration.
std::string rounded_up(std::size_t bytes) {
  constexpr std::size_t kMiB = std::size_t{1} << 20, kGiB = std::size_t{1} << 30;
  if (bytes < 16 * kGiB) return fmt::format("{} MiB", round_up(bytes, kMiB) / kMiB);
  return fmt::format("{} GiB", round_up(bytes, kGiB) / kGiB);
}

}  // namespace

std::string shortage(const Ledger& ledger, const Budgets& budgets, bool one_memory) {
  const std::size_t device = ledger.peak(Tier::device);
  const std::size_t memory = (one_memory ? device : 0) + ledger.peak(Tier::host);
  const std::size_t nvme = ledger.peak(Tier::nvme);
  if (budgets.device && device > *budgets.device)
    return fmt::format("device: needs {}, {} allows {}: short by {}", bytes_text(device), budgets.device_source,
                       bytes_text(*budgets.device), bytes_text(device - *budgets.device));
  if (memory > budgets.host)
    return fmt::format("host: needs {}{}, {} allows {}: short by {}", bytes_text(memory),
                       one_memory ? " (device and host entries are both host memory here)" : "", budgets.host_source,
                       bytes_text(budgets.host), bytes_text(memory - budgets.host));
  if (nvme > 0 && budgets.nvme == 0)
    return fmt::format("nvme: needs {}, but there is no nvme tier: {}", bytes_text(nvme), budgets.nvme_source);
  if (nvme > budgets.nvme)
    return fmt::format("nvme: needs {}, {} allows {}: short by {}", bytes_text(nvme), budgets.nvme_source,
                       bytes_text(budgets.nvme), bytes_text(nvme - budgets.nvme));
  return {};
}

std::string budgets_that_fit(const Budgets& budgets, bool one_memory, const std::function<bool(const Budgets&)>& fits) {
  std::vector<std::string> ways;
  const auto try_more = [&](std::size_t now, std::size_t ranks, const std::string& what,
                            const std::function<void(Budgets&, std::size_t)>& set) {
    const std::optional<std::size_t> bytes = smallest(now, [&](std::size_t more) {
      Budgets other = budgets;
      set(other, more);
      return fits(other);
    });
    if (bytes) ways.push_back(fmt::format("{} {}", rounded_up(*bytes * ranks), what));
  };
  const std::string of_node = budgets.ranks > 1 ? fmt::format(" for the {} ranks of a node", budgets.ranks) : "";
  if (budgets.device)
    try_more(*budgets.device, 1, "of device memory (memory.device)",
             [](Budgets& other, std::size_t bytes) { other.device = bytes; });
  try_more(budgets.host, budgets.ranks,
           fmt::format("of {}{} (memory.host)", one_memory ? "memory" : "host memory", of_node),
           [](Budgets& other, std::size_t bytes) { other.host = bytes; });
  try_more(budgets.nvme, budgets.ranks, fmt::format("in offload.nvme_dirs{} (memory.nvme)", of_node),
           [](Budgets& other, std::size_t bytes) { other.nvme = bytes; });
  if (ways.empty()) return {};
  return fmt::format("it would fit with {}\n", fmt::join(ways, ", or with "));
}

}  // namespace spillway::plan
