// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/directory.hpp"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "checkpoint/files.hpp"
#include "checkpoint/layout.hpp"
#include "checkpoint/manifest.hpp"
#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTemporary = ".tmp";
// Only where a file system cannot exchange two folders: the checkpoint being replaced, until the new one has its name.
constexpr std::string_view kReplaced = ".old";

std::vector<std::string> folders_of(const std::string& root) {
  std::error_code code;
  std::vector<std::string> names;
  const fs::file_type type = fs::status(root, code).type();
  if (type == fs::file_type::not_found) return names;
  if (type == fs::file_type::none) throw IoError(fmt::format("{}: listing the checkpoints failed", root), code.value());
  for (fs::directory_iterator entry(root, code), end; !code && entry != end; entry.increment(code)) {
    std::error_code unknown;
    if (entry->is_directory(unknown)) names.push_back(entry->path().filename().string());
  }
  if (code) throw IoError(fmt::format("{}: listing the checkpoints failed", root), code.value());
  std::ranges::sort(names);
  return names;
}

/// "step-000000003" of "step-000000003.tmp"; nothing if the name has another form.
std::optional<std::string> without_suffix(const std::string& name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return std::nullopt;
  std::string base = name.substr(0, name.size() - suffix.size());
  if (!step_of_name(base)) return std::nullopt;
  return base;
}

bool is_committed(const std::string& root, const std::string& name) {
  if (step_of_name(name)) return true;
  const auto base = without_suffix(name, kReplaced);
  if (!base) return false;
  std::error_code code;
  const fs::file_type newer = fs::status(root + "/" + *base, code).type();
  return newer == fs::file_type::not_found || newer == fs::file_type::none;
}

std::string path_of(const std::string& root, std::int64_t step) { return root + "/" + step_name(step); }

/// Takes a checkpoint's name away first, so that a kill leaves no half of it under that name.
void remove_checkpoint(const std::string& root, const CheckpointEntry& entry) {
  const std::string doomed = path_of(root, entry.step) + std::string(kTemporary);
  remove_path(doomed);
  rename_path(entry.path, doomed);
  sync_path(root);
  remove_path(doomed);
}

}  // namespace

std::vector<CheckpointEntry> list(const std::string& root) {
  std::vector<CheckpointEntry> entries;
  for (const std::string& name : folders_of(root)) {
    if (!is_committed(root, name)) continue;
    const std::string path = root + "/" + name;
    try {
      const std::string manifest_path = path + "/" + std::string(kManifestFile);
      const Manifest manifest = parse_manifest(read_text(manifest_path), manifest_path);
      entries.push_back({path, manifest.step, manifest.sequence, manifest.world_size});
    } catch (const Error& error) {
      log::warning(fmt::format("checkpoint left out: {}", error.what()));
    }
  }
  std::ranges::stable_sort(entries, {},
                           [](const CheckpointEntry& entry) { return std::pair(entry.sequence, entry.step); });
  return entries;
}

bool holds_any(const std::string& root) {
  return std::ranges::any_of(folders_of(root), [&](const std::string& name) { return is_committed(root, name); });
}

std::optional<CheckpointEntry> latest(const std::string& root) {
  const auto entries = list(root);
  if (entries.empty()) return std::nullopt;
  return entries.back();
}

std::vector<std::string> prune(const std::string& root, int keep, const std::vector<std::int64_t>& protected_steps) {
  std::vector<std::string> removed;
  if (keep <= 0) return removed;
  auto entries = list(root);
  std::erase_if(entries, [&](const CheckpointEntry& entry) {
    return std::ranges::find(protected_steps, entry.step) != protected_steps.end();
  });
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep) < entries.size(); ++i) {
    remove_checkpoint(root, entries[i]);
    removed.push_back(entries[i].path);
  }
  return removed;
}

std::string prepare_folder(const std::string& root, std::int64_t step) {
  std::error_code code;
  fs::create_directories(root, code);
  if (code) throw IoError(fmt::format("{}: making the folder failed", root), code.value());
  for (const std::string& name : folders_of(root)) {
    const bool abandoned = without_suffix(name, kTemporary).has_value();
    const bool superseded = without_suffix(name, kReplaced).has_value() && !is_committed(root, name);
    if (abandoned || superseded) remove_path(root + "/" + name);
  }
  std::string path = path_of(root, step) + std::string(kTemporary);
  fs::create_directory(path, code);
  if (code) throw IoError(fmt::format("{}: making the folder failed", path), code.value());
  return path;
}

std::string commit_folder(const std::string& root, std::int64_t step) {
  std::string path = path_of(root, step);
  const std::string temporary = path + std::string(kTemporary);
  const std::string replaced = path + std::string(kReplaced);
  put_in_place(temporary, path, replaced);
  sync_path(root);
  write_text_durably(root + "/" + std::string(kLatest), step_name(step) + "\n");
  remove_path(temporary);
  remove_path(replaced);
  return path;
}

void discard_folder(const std::string& root, std::int64_t step) {
  remove_path(path_of(root, step) + std::string(kTemporary));
}

}  // namespace spillway::checkpoint
