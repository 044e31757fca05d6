// SPDX-License-Identifier: Apache-2.0
#include <filesystem>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "support/scratch_directory.hpp"
#include "train/machine.hpp"
#include "train/trainee.hpp"

namespace spillway::test {
namespace {

/// What the files in a folder and those below it take.
std::uintmax_t bytes_below(const std::string& folder) {
  std::uintmax_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) bytes += entry.file_size();
  return bytes;
}

class Growth : public ::testing::TestWithParam<train::TierChoice> {};

TEST_P(Growth, After500Steps_MemoryAndFilesAreWhatTheyWereAfter100) {
  const ScratchDirectory folder;
  if (folder.in_memory()) GTEST_SKIP() << "the working directory is a tmpfs, which offload refuses";
  write_training_folder(folder.path());
  train::RunOptions options = training_options(folder.path());
  options.train.max_steps = 500;
  options.offload.placement = GetParam();
  const auto communicator = comm::make_single_communicator();
  Trainee trainee(options, *communicator);
  trainee.run(100);
  trainee.engine().finish_update();
  const std::size_t resident = train::resident_bytes();
  const std::uintmax_t files = bytes_below(folder.file("nvme"));

  trainee.run(400);
  trainee.engine().finish_update();

  const std::size_t later = train::resident_bytes();
  // What the allocator and the threads' stacks may still touch; 400 steps that each lost a hundred bytes an extent are more.
  constexpr std::size_t kSlack = std::size_t{1} << 20;
  EXPECT_LE(later, resident + kSlack);
  EXPECT_EQ(bytes_below(folder.file("nvme")), files);
  EXPECT_EQ(files > 0, GetParam() == train::TierChoice::nvme);
  std::cout << fmt::format("resident {:.2f} MiB after 100 steps, {:.2f} after 500; files {:.2f} MiB\n",
                           static_cast<double>(resident) / 1048576, static_cast<double>(later) / 1048576,
                           static_cast<double>(files) / 1048576);
}

INSTANTIATE_TEST_SUITE_P(Tiers, Growth,
                         ::testing::Values(train::TierChoice::device, train::TierChoice::host,
                                           train::TierChoice::nvme));

}  // namespace
}  // namespace spillway::test
