// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/files.hpp"
#include "checkpoint/ports.hpp"
#include "checkpoint/writer.hpp"
#include "comm/communicator.hpp"
#include "core/shard_map.hpp"
#include "support/scratch_directory.hpp"

namespace spillway::checkpoint {

using ScratchFolder = test::ScratchDirectory;

/// pread and pwrite; fails the test on an unaligned transfer; a full disk after `room` bytes.
class PlainStorage : public BulkStorage {
 public:
  explicit PlainStorage(std::uint64_t room = UINT64_MAX) : room_(room) {}
  void write(const std::string& path, std::uint64_t offset_bytes, std::span<const std::byte> bytes) override;
  void read(const std::string& path, std::uint64_t offset_bytes, std::span<std::byte> bytes) override;
  void finish(const std::string& path) override { files_.erase(path); }
  [[nodiscard]] std::size_t open_files() const noexcept { return files_.size(); }
  [[nodiscard]] std::uint64_t read_bytes() const noexcept { return read_bytes_; }

 private:
  const FileDescriptor& file(const std::string& path);
  std::map<std::string, FileDescriptor> files_;
  std::uint64_t room_;
  std::uint64_t read_bytes_ = 0;
};

/// Two blocks of odd-sized matrices and vectors, a few KiB, units with and without holes between tensors.
std::vector<TensorSpec> small_tensors();
/// The same with a matrix of 3.2 MB.
std::vector<TensorSpec> large_tensors();

/// Elements whose bits depend on kind, tensor and place: any pattern, NaN included.
std::vector<float> whole_tensor(const std::string& kind, const TensorSpec& tensor);
inline const std::vector<std::string> kKinds = {"master", "exp_avg", "exp_avg_sq"};

/// One rank's state as whole_tensor says.
class PatternSource : public StateSource {
 public:
  PatternSource(const ShardMap& shards, int rank) : shards_(shards), rank_(rank) {}
  [[nodiscard]] std::vector<std::string> kinds() const override { return kKinds; }
  void read(const std::string& kind, int unit, Range range, std::span<float> to) override;

 private:
  const ShardMap& shards_;
  int rank_;
};

/// Keeps one rank's state; fails the test unless every element comes once and in order.
class KeepingSink : public StateSink {
 public:
  explicit KeepingSink(std::vector<std::string> kinds = kKinds) : kinds_(std::move(kinds)) {}
  [[nodiscard]] std::vector<std::string> kinds() const override { return kinds_; }
  void write(const std::string& kind, int unit, Range range, std::span<const float> from) override;
  /// The elements so far.
  [[nodiscard]] const std::vector<float>& shard(const std::string& kind, int unit) { return shards_[{kind, unit}]; }

 private:
  std::vector<std::string> kinds_;
  std::map<std::pair<std::string, int>, std::vector<float>> shards_;
};

/// The bits of two spans are equal: NaNs too.
[[nodiscard]] bool same_bits(std::span<const float> a, std::span<const float> b);

/// Saves PatternSource's state of all ranks, one rank after the other, without a communicator. \return the folder
std::string save(const std::string& root, std::int64_t step, const std::vector<TensorSpec>& tensors, int ranks,
                 const std::string& metadata = "{}");

/// Runs `work` on `ranks` threads with communicators. \return what each rank threw, "" if nothing
std::vector<std::string> on_ranks(int ranks, const std::function<void(comm::Communicator&)>& work);

/// What `work` throws as an E.
template <typename E, typename Work>
std::string message_of(Work work) {
  try {
    work();
  } catch (const E& error) {
    return error.what();
  }
  return "nothing was thrown";
}

void flip_byte(const std::string& path, std::uint64_t offset);
std::vector<std::string> names_in(const std::string& folder);

}  // namespace spillway::checkpoint
