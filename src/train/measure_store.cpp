// SPDX-License-Identifier: Apache-2.0
#include "train/measure_store.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "core/device.hpp"
#include "core/error.hpp"
#include "offload/block_store.hpp"
#include "offload/file.hpp"
#include "offload/scratch_file.hpp"
#include "train/machine.hpp"

namespace spillway::train {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kBlock = std::size_t{4} << 20;
constexpr std::uint64_t kMostFile = std::uint64_t{1} << 30;
constexpr std::array kDepths = {4, 16, 32};
constexpr int kLeastUnsettled = 8, kMostUnsettled = 20;  // times that are not measured
constexpr double kSettled = 0.95;                        // of what the time before gave

enum class Traffic { read, write, both };

/// A file of every directory.
class Files {
 public:
  Files(offload::BlockStore& store, const std::vector<std::string>& directories, std::uint64_t bytes)
      : store_(store), blocks_(bytes / kBlock) {
    for (const std::string& directory : directories) {
      folders_.emplace_back(store, directory, fmt::format("spillway-doctor-{}", getpid()));
      files_.emplace_back(store, folders_.back().path() + "/blocks", bytes);
    }
  }

  /// Keeps a transfer in every buffer until the time is over. Blocks go to the files in turn, and round in each.
  /// \return bytes a second
  double run(Traffic traffic, std::span<std::byte> memory, std::chrono::duration<double> time) {
    const std::size_t depth = memory.size() / kBlock;
    std::vector<offload::Completion> under_way(depth);
    const auto start = Clock::now();
    std::uint64_t blocks = 0;
    bool more = true;
    for (std::uint64_t next = 0; more; ++next) {
      const std::size_t slot = next % depth;
      if (under_way[slot].pending()) {
        under_way[slot].wait();
        ++blocks;
      }
      more = Clock::now() - start < time;
      if (more) under_way[slot] = begin(traffic, next, memory.subspan(slot * kBlock, kBlock));
    }
    for (offload::Completion& transfer : under_way)
      if (transfer.pending()) {
        transfer.wait();
        ++blocks;
      }
    return static_cast<double>(blocks * kBlock) / std::chrono::duration<double>(Clock::now() - start).count();
  }

 private:
  offload::Completion begin(Traffic traffic, std::uint64_t number, std::span<std::byte> buffer) {
    const offload::FileId file = files_[number % files_.size()].id();
    const std::uint64_t offset = number / files_.size() % blocks_ * kBlock;
    // In turns by the block's number in its file, so that several files do not get one kind each.
    if (traffic == Traffic::read || (traffic == Traffic::both && number / files_.size() % 2 == 0))
      return store_.read(file, offset, buffer);
    return store_.write(file, offset, buffer);
  }

  offload::BlockStore& store_;
  std::uint64_t blocks_;  // of a file
  std::vector<offload::ScratchFolder> folders_;
  std::vector<offload::ScratchFile> files_;
};

/// Reads and writes until that no longer becomes slower.
void settle(Files& files, std::span<std::byte> memory, std::chrono::duration<double> each) {
  double before = files.run(Traffic::write, memory, each);  // what was never written is not on the drive
  for (int time = 1; time < kMostUnsettled; ++time) {
    const double rate = files.run(Traffic::both, memory, each);
    if (time + 1 >= kLeastUnsettled && rate >= kSettled * before) return;
    before = rate;
  }
}

/// Whether the page cache is bypassed there.
bool direct(const std::string& directory) {
  const std::string path = fmt::format("{}/spillway-doctor-probe-{}", directory, getpid());
  const offload::File file(path, offload::OpenMode::create_new, 0, true);
  std::error_code ignored;
  std::filesystem::remove(path, ignored);
  return file.direct();
}

/// Those that can hold state; the others become findings.
std::vector<std::string> usable(const std::vector<std::string>& directories, std::vector<Finding>& findings) {
  std::vector<std::string> good;
  const auto store = offload::make_posix_store({});
  for (const std::string& directory : directories) {
    try {
      const offload::ScratchFolder folder(*store, directory, fmt::format("spillway-doctor-{}", getpid()));
      if (!direct(folder.path()))
        findings.push_back(
            {fmt::format("{}: this file system has no O_DIRECT, so what is offloaded there also fills the "
                         "page cache",
                         directory),
             "name a directory on a local ext4 or xfs"});
      good.push_back(directory);
    } catch (const Error& error) {
      findings.push_back({error.what(), "name a directory of your own on a local drive in offload.nvme_dirs"});
    }
  }
  return good;
}

}  // namespace

StoreMeasures measure_store(const std::vector<std::string>& directories, std::chrono::duration<double> each,
                            std::vector<Finding>& findings) {
  StoreMeasures measures;
  const std::vector<std::string> good = usable(directories, findings);
  if (good.empty()) return measures;
  try {
    (void)offload::make_uring_store({});
  } catch (const Error& error) {
    findings.push_back({fmt::format("io_uring cannot be used, threads read and write instead: {}", error.what()),
                        "use Linux 5.6 or later with liburing, and allow io_uring in containers (seccomp)"});
  }
  const std::size_t free = free_disk_bytes(good);
  const std::uint64_t bytes = std::min(kMostFile, free / good.size() / 4 / kBlock * kBlock);
  if (bytes < 64 * kBlock) {
    findings.push_back({fmt::format("{}: too little room to measure", fmt::join(good, ", ")), "free some"});
    return measures;
  }
  const auto host = make_host_device();
  const Buffer memory = host->allocate(MemoryKind::pinned_host, kDepths.back() * kBlock);
  // Drives that compress must not be told of zeros.
  std::uint64_t number = 1;
  for (std::size_t i = 0; i < memory.bytes(); i += sizeof(number)) {
    number = number * 6364136223846793005ULL + 1442695040888963407ULL;
    std::copy_n(reinterpret_cast<const std::byte*>(&number), sizeof(number), memory.data() + i);
  }
  for (const int depth : kDepths) {
    const auto store = offload::make_store("auto", {.queue_depth = depth});
    const std::span<std::byte> buffers(memory.data(), static_cast<std::size_t>(depth) * kBlock);
    (void)store->register_buffer(buffers);
    Files files(*store, good, bytes);
    if (depth == kDepths.front()) settle(files, buffers, each);
    const double write = files.run(Traffic::write, buffers, each);
    measures.depths.push_back({.depth = depth,
                               .read = files.run(Traffic::read, buffers, each),
                               .write = write,
                               .both = files.run(Traffic::both, buffers, each)});
  }
  const StoreRates& best = *std::ranges::max_element(measures.depths, {}, &StoreRates::both);
  measures.drives =
      plan::NvmeProfile{.read_rate = best.read,
                        .write_rate = best.write,
                        .both_rate = best.both,
                        .free_bytes = free,
                        .source = fmt::format("measured in {}: blocks of 4 MiB, {} in flight; the drives' "
                                              "endurance is not known",
                                              fmt::join(good, ", "), best.depth)};
  return measures;
}

}  // namespace spillway::train
