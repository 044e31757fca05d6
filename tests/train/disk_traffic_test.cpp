// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "offload/file.hpp"
#include "support/scratch_directory.hpp"
#include "support/thread_ranks.hpp"
#include "train/trainee.hpp"

namespace spillway::test {
namespace {

/// What the kernel counts of this process at the block layer.
struct KernelCounters {
  std::uint64_t read_bytes = 0, written_bytes = 0;
};

KernelCounters kernel_counters() {
  KernelCounters counters;
  std::ifstream file("/proc/self/io");
  std::string key;
  for (std::uint64_t value = 0; file >> key >> value;) {
    if (key == "read_bytes:") counters.read_bytes = value;
    if (key == "write_bytes:") counters.written_bytes = value;
  }
  return counters;
}

class DiskTraffic : public ::testing::TestWithParam<train::StoreChoice> {};

TEST_P(DiskTraffic, IsWhatTheKernelCounts) {
  const ScratchDirectory folder;
  if (folder.in_memory()) GTEST_SKIP() << "the working directory is a tmpfs, which offload refuses";
  if (!offload::File(folder.file("probe"), offload::OpenMode::create_new, 4096, true).direct())
    GTEST_SKIP() << "the file system of the working directory has no O_DIRECT";
  if (!std::ifstream("/proc/self/io")) GTEST_SKIP() << "this kernel has no /proc/self/io";
  if (GetParam() == train::StoreChoice::uring && !offload::uring_compiled()) GTEST_SKIP() << "built without io_uring";
  write_training_folder(folder.path());
  train::RunOptions options = training_options(folder.path());
  options.offload.exp_avg = options.offload.exp_avg_sq = train::TierChoice::nvme;
  options.offload.store = GetParam();
  options.offload.extent_size = 32768;

  run_on_thread_ranks(1, [&](comm::Communicator& communicator) {
    Trainee trainee(options, communicator);
    trainee.run(2);  // blocks that were never written are read without the disk
    trainee.engine().finish_update();
    const KernelCounters kernel_before = kernel_counters();
    const offload::StoreCounters store_before = trainee.engine().store()->counters();

    trainee.run(6);
    trainee.engine().finish_update();

    const KernelCounters kernel = kernel_counters();
    const offload::StoreCounters store = trainee.engine().store()->counters();
    const auto read = static_cast<double>(store.read_bytes - store_before.read_bytes);
    const auto written = static_cast<double>(store.written_bytes - store_before.written_bytes);
    // Two moments of every parameter, once each way in every step.
    const double state = 6.0 * 2.0 * sizeof(float) * static_cast<double>(trainee.job().map->rank_elements());
    EXPECT_GE(read, state);
    EXPECT_GE(written, state);
    EXPECT_NEAR(static_cast<double>(kernel.read_bytes - kernel_before.read_bytes), read, 0.05 * read);
    EXPECT_NEAR(static_cast<double>(kernel.written_bytes - kernel_before.written_bytes), written, 0.05 * written);
  });
}

INSTANTIATE_TEST_SUITE_P(Stores, DiskTraffic, ::testing::Values(train::StoreChoice::posix, train::StoreChoice::uring));

}  // namespace
}  // namespace spillway::test
