// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/writer.hpp"

#include <algorithm>

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

constexpr char kDone = '+';
constexpr char kFailed = '-';

/// Runs `work` and tells every rank how it went. \return what each rank's work returned
/// \throws IoError, the same on all ranks, if the work of any rank threw
template <typename Work>
std::vector<std::string> together(comm::Communicator& communicator, std::int64_t step, Work work) {
  std::string outcome;
  try {
    outcome = kDone + work();
  } catch (const std::exception& error) {
    outcome = kFailed + std::string(error.what());
  }
  const auto outcomes = communicator.exchange(std::as_bytes(std::span(outcome)));
  std::vector<std::string> results;
  std::string failures;
  for (std::size_t rank = 0; rank < outcomes.size(); ++rank) {
    const std::string text(reinterpret_cast<const char*>(outcomes[rank].data()), outcomes[rank].size());
    if (text.front() == kFailed)
      failures += fmt::format("{}rank {}: {}", failures.empty() ? "" : "; ", rank, text.substr(1));
    results.push_back(text.substr(1));
  }
  if (!failures.empty()) throw IoError(fmt::format("step {} was not saved: {}", step, failures));
  return results;
}

}  // namespace

FileRecord write_rank_part(const std::string& folder, const WriteRequest& request, int rank) {
  const Staging staging(std::max(request.staging_bytes, kHashBlock));
  return write_rank_file(folder, request.step, request.shards, rank, request.source, request.bulk, staging.floats());
}

void write_root_part(const std::string& folder, const WriteRequest& request, std::span<const FileRecord> rank_files) {
  const std::vector<std::string> kinds = request.source.kinds();
  write_tensor_file(folder, request.shards, kinds, {request.step, request.metadata, request.creator});
  const auto last = latest(request.root);
  Manifest manifest{request.step, last ? last->sequence + 1 : 1, request.shards.ranks(),
                    kinds,        request.shards.tensors(),      {rank_files.begin(), rank_files.end()}};
  manifest.files.push_back(record_of_metadata_file(folder, std::string(kTensorFile)));
  write_text_durably(folder + "/" + std::string(kManifestFile), manifest_text(manifest));
}

std::string write_checkpoint(comm::Communicator& communicator, const WriteRequest& request) {
  const int rank = communicator.rank();
  const bool is_root = rank == 0;
  const auto step = [&](auto work) { return together(communicator, request.step, work); };
  const auto on_root = [&](auto work) { return step([&] { return is_root ? work() : std::string(); }).front(); };

  try {
    const std::string folder = on_root([&] {
      if (request.shards.ranks() != communicator.size())
        throw Error(
            fmt::format("the shards are for {} ranks, the group has {}", request.shards.ranks(), communicator.size()));
      return prepare_folder(request.root, request.step);
    });
    const auto records = step([&] { return file_record_text(write_rank_part(folder, request, rank)); });
    on_root([&] {
      std::vector<FileRecord> files;
      for (const std::string& text : records) files.push_back(parse_file_record(text));
      write_root_part(folder, request, files);
      return std::string();
    });
    return on_root([&] { return commit_folder(request.root, request.step); });
  } catch (const IoError& failure) {
    // together() threw the same on all ranks. Nobody leaves before the remains are gone.
    std::string remains;
    if (is_root) {
      try {
        discard_folder(request.root, request.step);
      } catch (const std::exception& error) {
        remains = fmt::format("; its remains could not be removed: {}", error.what());
      }
    }
    communicator.barrier();
    if (remains.empty()) throw;
    throw IoError(failure.what() + remains);
  }
}

}  // namespace spillway::checkpoint
