// SPDX-License-Identifier: Apache-2.0
#include "train/resume.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <span>
#include <sstream>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "checkpoint/damage.hpp"
#include "checkpoint/directory.hpp"
#include "checkpoint/reader.hpp"
#include "core/log.hpp"
#include "core/text_file.hpp"
#include "train/agreement.hpp"
#include "train/checkpoints.hpp"
#include "train/collective_schedule.hpp"
#include "train/metrics.hpp"

namespace spillway::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kResume = "checkpoint.resume";

/// The newest checkpoint if a stop of the same command left it and the run is not done.
std::optional<std::string> left_by_a_stop(const RunOptions& options, const ConfigRecord& config,
                                          const std::string& root) {
  const auto newest = checkpoint::latest(root);
  if (!newest) return std::nullopt;
  const RunState state = run_state_from_json(checkpoint::CheckpointReader(newest->path).metadata(), newest->path);
  const auto asked = state.config.values.find(kResume);
  const auto now = config.values.find(kResume);
  const bool same = asked != state.config.values.end() && now != config.values.end() && asked->second == now->second;
  if (!state.stopped || !same || has_results(options, state)) return std::nullopt;
  log::info(fmt::format("{} was left by a stop of this run: going on from it, not from {} = \"{}\"", newest->path,
                        kResume, options.checkpoint.resume));
  return newest->path;
}

/// What rank 0 tells the others.
std::string choice(const std::string& folder, bool stopped) {
  return nlohmann::json{
      {"folder", folder}, {"metadata", checkpoint::CheckpointReader(folder).metadata()}, {"stopped", stopped}}
      .dump();
}

/// Of the newest checkpoint that is not known to be damaged; empty if there is none at all.
std::string newest_whole(const std::string& root, const std::vector<std::string>& damaged) {
  const std::vector<checkpoint::CheckpointEntry> entries = checkpoint::list(root);
  if (entries.empty() && !checkpoint::holds_any(root)) return {};
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    if (std::ranges::find(damaged, entry->path) != damaged.end()) continue;
    try {
      return choice(entry->path, false);
    } catch (const checkpoint::Damage& damage) {
      log::warning(fmt::format("{} cannot be resumed from: {}", entry->path, damage.what()));
    }
  }
  throw DataError(
      fmt::format("{}: every checkpoint is damaged; to begin anew, remove them or set checkpoint.resume = "
                  "\"none\"",
                  root));
}

std::string mark_path(const RunOptions& options) { return options.train.output_dir + "/FINISHED"; }

/// No two runs train for the same time to the last bit.
std::string mark_of(const RunState& state) {
  return fmt::format("step {} after {} s of training\n", state.step, state.train_seconds);
}

}  // namespace

std::optional<ResumePoint> find_resume_point(const RunOptions& options, const ConfigRecord& config,
                                             const std::vector<std::string>& damaged,
                                             comm::Communicator& communicator) {
  const std::string root = options.checkpoint_dir();
  const std::string chosen = text_of_rank_0(communicator, [&]() -> std::string {
    if (options.checkpoint.resume == "auto") return newest_whole(root, damaged);
    const auto left = left_by_a_stop(options, config, root);
    const auto folder = left ? left : find_checkpoint(options.checkpoint, root);
    return folder ? choice(*folder, left.has_value()) : std::string();
  });
  if (chosen.empty()) return std::nullopt;
  const auto object = nlohmann::json::parse(chosen);
  ResumePoint point{.folder = object.at("folder"), .state = {}};
  agree(communicator, [&] { point.state = run_state_from_json(object.at("metadata"), point.folder); });
  // Until it is done, a run that went on this way does so again.
  point.state.stopped = object.at("stopped");
  return point;
}

bool has_results(const RunOptions& options, const RunState& state) {
  const std::string& output = options.train.output_dir;
  std::ifstream file(mark_path(options));
  std::ostringstream mark;
  mark << file.rdbuf();
  return file && mark.str() == mark_of(state) && fs::exists(output + "/all_results.json") &&
         (!options.checkpoint.export_model || fs::is_directory(output + "/model"));
}

void mark_results(const RunOptions& options, const RunState& state) { write_text(mark_path(options), mark_of(state)); }

void unmark_results(const RunOptions& options) { fs::remove(mark_path(options)); }

namespace {

/// Every rank's text, in rank order.
std::vector<std::string> texts_of_all(comm::Communicator& communicator, const std::string& mine) {
  std::vector<std::string> all;
  for (const auto& bytes : communicator.exchange(std::as_bytes(std::span(mine))))
    all.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return all;
}

}  // namespace

void compare_ranks(const Job& job, const ContentRecord& contents, std::int64_t step, comm::Communicator& communicator) {
  // Contents are what the user gave the ranks. The rest follows from that and from the program.
  const std::vector<ScheduledCollective> schedule = collective_schedule(job);
  const ContentRecord derived = {{"step program", fmt::format("{:016x}", job.plan.program.hash())},
                                 {"collectives of a step", fmt::format("{:016x}", hash_of(schedule))},
                                 {"step to go on from", std::to_string(step)},
                                 {"last step", std::to_string(job.total_steps)}};
  const std::vector<std::string> all = texts_of_all(communicator, nlohmann::json{contents, derived}.dump());
  const auto other = std::ranges::find_if(all, [&](const std::string& text) { return text != all[0]; });
  if (other == all.end()) return;
  const int rank = static_cast<int>(other - all.begin());
  // All ranks are here: they have the same texts.
  const std::vector<std::string> schedules = texts_of_all(communicator, text_of(schedule));
  const auto here = nlohmann::json::parse(all[0]).get<std::vector<ContentRecord>>();
  const auto there = nlohmann::json::parse(*other).get<std::vector<ContentRecord>>();
  const std::string name = fmt::format("rank {}", rank);
  const std::string of_contents = differences(here[0], "rank 0", there[0], name);
  throw AgreedFailure("the ranks would not train the same:" + of_contents +
                          differences(here[1], "rank 0", there[1], name) +
                          first_difference(schedules[0], schedules[static_cast<std::size_t>(rank)], rank),
                      of_contents.empty() ? ExitCode::failure : ExitCode::data);
}

}  // namespace spillway::train
