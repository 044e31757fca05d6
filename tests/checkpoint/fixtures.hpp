// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
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

/// kKinds, all with one layout, which must outlive what gets them.
[[nodiscard]] std::vector<StateKind> kinds_over(const ShardMap& layout);

/// Kinds and the tensors of each.
using KindTensors = std::vector<std::pair<std::string, std::vector<TensorSpec>>>;
[[nodiscard]] KindTensors kinds_of(const std::vector<TensorSpec>& tensors);
/// large_tensors() and what Adafactor with momentum keeps of them where unit 1 is frozen: every kind has a table of its
/// own, unit 1 is empty in the middle of most, and units 2 and 3 at the end of exp_avg_sq.
[[nodiscard]] KindTensors factored_kinds();

/// ShardMaps of kinds at a number of ranks.
class Layouts {
 public:
  Layouts(const KindTensors& kinds, int ranks);
  [[nodiscard]] const std::vector<StateKind>& kinds() const noexcept { return kinds_; }

 private:
  std::vector<std::unique_ptr<ShardMap>> maps_;
  std::vector<StateKind> kinds_;
};

/// One piece of the state as whole_tensor says.
class PatternSource : public StateSource {
 public:
  PatternSource(std::vector<StateKind> kinds, int piece) : kinds_(std::move(kinds)), piece_(piece) {}
  [[nodiscard]] std::vector<StateKind> kinds() const override { return kinds_; }
  void read(const std::string& kind, int unit, Range range, std::span<float> to) override;

 private:
  std::vector<StateKind> kinds_;
  int piece_;
};

/// Keeps one piece of the state; fails the test unless every element comes once and in order.
class KeepingSink : public StateSink {
 public:
  explicit KeepingSink(std::vector<StateKind> kinds) : kinds_(std::move(kinds)) {}
  [[nodiscard]] std::vector<StateKind> kinds() const override { return kinds_; }
  void write(const std::string& kind, int unit, Range range, std::span<const float> from) override;
  /// The elements so far.
  [[nodiscard]] const std::vector<float>& shard(const std::string& kind, int unit) { return shards_[{kind, unit}]; }
  [[nodiscard]] bool empty() const noexcept { return shards_.empty(); }

 private:
  std::vector<StateKind> kinds_;
  std::map<std::pair<std::string, int>, std::vector<float>> shards_;
};

/// The bits of two spans are equal: NaNs too.
[[nodiscard]] bool same_bits(std::span<const float> a, std::span<const float> b);

/// Saves PatternSource's state of all ranks, one rank after the other, without a communicator. \return the folder
std::string save(const std::string& root, std::int64_t step, const KindTensors& kinds, int ranks,
                 const std::string& metadata = "{}");
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

/// A manifest's text, of which all kinds share a table, as version 1 of the format had it.
[[nodiscard]] std::string as_version_1(const std::string& manifest);

void flip_byte(const std::string& path, std::uint64_t offset);
std::vector<std::string> names_in(const std::string& folder);

}  // namespace spillway::checkpoint
