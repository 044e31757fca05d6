// SPDX-License-Identifier: Apache-2.0
#include "train/consistency.hpp"

#include <algorithm>
#include <span>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "checkpoint/hash.hpp"

namespace spillway::train {
namespace {

constexpr std::size_t kMostLines = 8;

std::string ranks_text(const std::vector<std::size_t>& ranks) {
  return fmt::format("rank{} {}", ranks.size() > 1 ? "s" : "", fmt::join(ranks, ", "));
}

}  // namespace

std::string deviations(const std::vector<Holdings>& all) {
  std::vector<std::string> lines;
  for (const auto& [name, first] : all.at(0)) {
    std::map<std::string, std::vector<std::size_t>> holders;  // of each value
    for (std::size_t rank = 0; rank < all.size(); ++rank) holders[all[rank].at(name)].push_back(rank);
    if (holders.size() == 1) continue;
    const std::string* usual = &first;
    for (const auto& [value, ranks] : holders)
      if (ranks.size() > holders.at(*usual).size()) usual = &value;
    std::vector<std::string> others;
    for (const auto& [value, ranks] : holders)
      if (value != *usual)
        others.push_back(fmt::format("{} {} {}", ranks_text(ranks), ranks.size() > 1 ? "have" : "has", value));
    const auto& usual_ranks = holders.at(*usual);
    lines.push_back(fmt::format("\n  {}: {}; {} {} {}", name, fmt::join(others, "; "), ranks_text(usual_ranks),
                                usual_ranks.size() > 1 ? "have" : "has", *usual));
  }
  std::string text;
  for (std::size_t i = 0; i < lines.size() && i < kMostLines; ++i) text += lines[i];
  if (lines.size() > kMostLines) text += fmt::format("\n  and {} more", lines.size() - kMostLines);
  return text;
}

ConsistencyCheck::ConsistencyCheck(Engine& engine, comm::Communicator& communicator, std::int64_t step)
    : engine_(engine), communicator_(communicator), agreed_step_(step) {
  if (engine.device().is_host()) return;
  queue_ = engine.device().create_compute_queue();
  buffer_ = engine.device().allocate(MemoryKind::pinned_host, kBufferBytes);
}

void ConsistencyCheck::run(const RunState& state) {
  const std::string mine = nlohmann::json(holdings(state)).dump();
  std::vector<Holdings> all;
  for (const auto& bytes : communicator_.exchange(std::as_bytes(std::span(mine))))
    all.push_back(
        nlohmann::json::parse(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size())).get<Holdings>());
  const std::string found = deviations(all);
  if (!found.empty())
    throw Inconsistency(
        fmt::format("step {}: the ranks no longer have the same (train.consistency_check_steps); they "
                    "last did at step {}, so do not go on from a later checkpoint:{}",
                    state.step, agreed_step_, found));
  agreed_step_ = state.step;
}

Holdings ConsistencyCheck::holdings(const RunState& state) {
  Holdings mine = {{"step", std::to_string(state.step)},
                   {"optimizer step", std::to_string(state.optimizer_step)},
                   {"place in the data", fmt::format("epoch {}, sample {}", state.cursor.epoch, state.cursor.position)},
                   {"seed", std::to_string(engine_.job().options.train.seed)}};
  if (state.loss_scale) mine["loss scale"] = fmt::format("{}", state.loss_scale->scale);
  const Job& job = engine_.job();
  if (job.adafactor)
    for (const std::string& kind : job.adafactor->kinds())
      mine[kind] = checkpoint::hash_text(checkpoint::hash_of(std::as_bytes(job.adafactor->values(kind))));
  engine_.begin_evaluation();
  Parameters& parameters = engine_.parameters();
  for (int unit = 0; unit < job.map->units(); ++unit) {
    const bool gathers = !job.units[static_cast<std::size_t>(unit)].persistent;
    if (gathers) parameters.acquire(unit);
    parameters.wait_for_gather(unit);
    mine["weights of " + job.layout->unit_name(unit)] = checkpoint::hash_text(hash_of_weights(unit));
    if (gathers) parameters.release(unit);
  }
  engine_.end_evaluation();
  return mine;
}

std::uint64_t ConsistencyCheck::hash_of_weights(int unit) {
  const ConstTensorView weights = engine_.parameters().weights(unit);
  const std::span<const std::byte> bytes(weights.data(), weights.bytes());
  std::vector<std::uint64_t> hashes;
  Device& device = engine_.device();
  for (std::size_t begin = 0; begin < bytes.size(); begin += kBufferBytes) {
    std::span<const std::byte> part = bytes.subspan(begin, std::min(kBufferBytes, bytes.size() - begin));
    if (!device.is_host()) {
      device.copy(*queue_, buffer_.data(), part.data(), part.size());
      queue_->synchronize();
      part = {buffer_.data(), part.size()};
    }
    hashes.push_back(checkpoint::hash_of(part));
  }
  return checkpoint::hash_of_hashes(hashes);
}

}  // namespace spillway::train
