// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/writer.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "checkpoint/directory.hpp"
#include "checkpoint/files.hpp"
#include "checkpoint/hash.hpp"
#include "checkpoint/layout.hpp"
#include "checkpoint/rank_file.hpp"
#include "checkpoint/staging.hpp"
#include "checkpoint/tensor_file.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

/// What one rank alone can say of a request. \return its ranks
int check_request(const WriteRequest& request) {
  const std::vector<StateKind> kinds = request.source.kinds();
  if (kinds.empty()) throw Error("there is no state to save");
  const int ranks = kinds.front().layout->ranks();
  for (const auto& [kind, layout] : kinds)
    if (layout->ranks() != ranks)
      throw Error(fmt::format("{} is for {} ranks, {} for {}", kind, layout->ranks(), kinds.front().name, ranks));
  if (request.piece < 0 || request.piece >= ranks)
    throw Error(fmt::format("piece {} of {} was given", request.piece, ranks));
  return ranks;
}

/// \param pieces  what each rank gives, as decimal texts
void check_pieces(const std::vector<std::string>& pieces) {
  std::vector<std::size_t> rank_of(pieces.size(), pieces.size());
  for (std::size_t rank = 0; rank < pieces.size(); ++rank) {
    std::size_t& giver = rank_of.at(std::stoul(pieces[rank]));
    if (giver != pieces.size())
      throw Error(fmt::format("ranks {} and {} both give piece {}", giver, rank, pieces[rank]));
    giver = rank;
  }
}

/// The kinds and, once each, their layouts.
void describe(const std::vector<StateKind>& kinds, Manifest& manifest) {
  for (const auto& [kind, layout] : kinds) {
    const auto found = std::ranges::find(manifest.layouts, layout->tensors());
    manifest.kinds.push_back({kind, static_cast<std::size_t>(found - manifest.layouts.begin())});
    if (found == manifest.layouts.end()) manifest.layouts.push_back(layout->tensors());
  }
}

/// There must be room for the state's values; the rest is small beside them. \throws IoError
void require_room(const std::string& root, const std::vector<StateKind>& kinds) {
  std::uint64_t bytes = 0;
  for (const auto& [kind, layout] : kinds)
    for (int unit = 0; unit < layout->units(); ++unit)
      bytes += static_cast<std::uint64_t>(dataset_elements(layout->shard_elements(unit))) * sizeof(float) *
               static_cast<std::uint64_t>(layout->ranks());
  if (const auto room = free_bytes(root); room && *room < bytes)
    throw IoError(fmt::format("{}: {} bytes are free, a checkpoint takes {}", root, *room, bytes), ENOSPC);
}

}  // namespace

FileRecord write_rank_part(const std::string& folder, const WriteRequest& request) {
  check_request(request);
  const Staging staging(std::max(request.staging_bytes, kHashBlock));
  return write_rank_file(folder, request.step, request.piece, request.source, request.bulk, staging.floats());
}

void write_root_part(const std::string& folder, const WriteRequest& request, std::span<const FileRecord> rank_files) {
  const std::vector<StateKind> kinds = request.source.kinds();
  write_tensor_file(folder, kinds, {request.step, request.metadata, request.creator});
  const auto last = latest(request.root);
  Manifest manifest{request.step, last ? last->sequence + 1 : 1,         kinds.front().layout->ranks(), {},
                    {},           {rank_files.begin(), rank_files.end()}};
  describe(kinds, manifest);
  std::ranges::sort(manifest.files, {}, &FileRecord::name);
  manifest.files.push_back(record_of_metadata_file(folder, std::string(kTensorFile)));
  write_text_durably(folder + "/" + std::string(kManifestFile), manifest_text(manifest));
}

template <typename Work>
Save::Outcome Save::outcome_of(Work work) {
  try {
    return {work(), ExitCode::done};
  } catch (const Error& error) {
    return {error.what(), error.exit_code()};
  } catch (const std::exception& error) {
    return {error.what(), ExitCode::internal};
  }
}

/// Tells every rank how work went. \return what each rank's work returned
/// \throws SaveFailure, the same on all ranks, if that of any rank failed
std::vector<std::string> Save::together(const Outcome& mine) {
  const std::string packed = static_cast<char>(mine.code) + mine.text;
  const auto outcomes = communicator_.exchange(std::as_bytes(std::span(packed)));
  std::vector<std::string> results;
  std::string failures;
  ExitCode code = ExitCode::done;
  for (std::size_t rank = 0; rank < outcomes.size(); ++rank) {
    const std::string text(reinterpret_cast<const char*>(outcomes[rank].data()), outcomes[rank].size());
    results.push_back(text.substr(1));
    const auto found = static_cast<ExitCode>(text.at(0));
    if (found == ExitCode::done) continue;
    if (code == ExitCode::done) code = found;
    failures += fmt::format("{}rank {}: {}", failures.empty() ? "" : "; ", rank, results.back());
  }
  if (code != ExitCode::done)
    discard(SaveFailure(fmt::format("step {} was not saved: {}", request_.step, failures), code));
  return results;
}

/// Nobody leaves before the remains are gone. \throws the failure, with why they are not if they are not
void Save::discard(const SaveFailure& failure) {
  std::string remains;
  if (is_root()) {
    const Outcome gone = outcome_of([&] {
      discard_folder(request_.root, request_.step);
      return std::string();
    });
    if (gone.code != ExitCode::done) remains = fmt::format("; its remains could not be removed: {}", gone.text);
  }
  communicator_.barrier();
  if (remains.empty()) throw failure;
  throw SaveFailure(failure.what() + remains, failure.exit_code());
}

Save::Save(comm::Communicator& communicator, WriteRequest request)
    : communicator_(communicator), request_(std::move(request)) {
  const auto pieces = together(outcome_of([&] {
    if (const int ranks = check_request(request_); ranks != communicator_.size())
      throw Error(fmt::format("the state is for {} ranks, the group has {}", ranks, communicator_.size()));
    return std::to_string(request_.piece);
  }));
  folder_ = together(outcome_of([&] {
              if (!is_root()) return std::string();
              check_pieces(pieces);
              std::string folder = prepare_folder(request_.root, request_.step);  // what it removes makes room
              require_room(request_.root, request_.source.kinds());
              return folder;
            })).front();
}

void Save::write_part() noexcept {
  outcome_ = outcome_of([&] { return file_record_text(write_rank_part(folder_, request_)); });
}

void Save::share_parts() { records_ = together(std::exchange(outcome_, {})); }

void Save::commit() noexcept {
  if (!is_root()) return;
  outcome_ = outcome_of([&] {
    std::vector<FileRecord> files;
    for (const std::string& text : records_) files.push_back(parse_file_record(text));
    write_root_part(folder_, request_, files);
    return commit_folder(request_.root, request_.step);
  });
}

std::string Save::finish() { return together(std::exchange(outcome_, {})).front(); }

std::string write_checkpoint(comm::Communicator& communicator, const WriteRequest& request) {
  Save save(communicator, request);
  save.write_part();
  save.share_parts();
  save.commit();
  return save.finish();
}

}  // namespace spillway::checkpoint
