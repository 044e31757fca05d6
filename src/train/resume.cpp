// SPDX-License-Identifier: Apache-2.0
#include "train/resume.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "checkpoint/damage.hpp"
#include "checkpoint/directory.hpp"
#include "checkpoint/reader.hpp"
#include "core/log.hpp"
#include "core/text_file.hpp"
#include "train/agreement.hpp"
#include "train/checkpoints.hpp"
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
  if (entries.empty()) return {};
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

void compare_ranks(const Job& job, const ContentRecord& contents, std::int64_t step, comm::Communicator& communicator) {
  ContentRecord mine = contents;
  const std::string program = "step program";
  mine[program] = fmt::format("{:016x}", job.plan.program.hash());
  mine["step to go on from"] = std::to_string(step);
  mine["last step"] = std::to_string(job.total_steps);
  const std::string text = nlohmann::json(mine).dump();
  std::vector<ContentRecord> all;
  for (const auto& bytes : communicator.exchange(std::as_bytes(std::span(text))))
    all.push_back(nlohmann::json::parse(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()))
                      .get<ContentRecord>());
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    const std::string different = differences(all[0], "rank 0", all[rank], fmt::format("rank {}", rank));
    if (!different.empty())
      throw AgreedFailure("the ranks would not train the same:" + different,
                          all[rank].at(program) == all[0].at(program) ? ExitCode::data : ExitCode::failure);
  }
}

}  // namespace spillway::train
