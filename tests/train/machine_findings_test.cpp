// SPDX-License-Identifier: Apache-2.0
#include "train/machine_findings.hpp"

#include <filesystem>

#include <gmock/gmock.h>

#include "core/device.hpp"
#include "core/text_file.hpp"
#include "support/scratch_directory.hpp"
#include "train/measure_host.hpp"
#include "train/measure_store.hpp"

namespace spillway::train {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

/// A machine of which nothing is wrong.
SystemState good() {
  return {.locked_bytes = {},
          .usable_cpus = 16,
          .online_cpus = 16,
          .memory_bytes = 64 * kGiB,
          .swap_bytes = 8 * kGiB,
          .free_swap_bytes = 8 * kGiB,
          .room_bytes = 60 * kGiB,
          .huge_pages = true,
          .gpu_link = PciLink{.width = 16, .best_width = 16, .speed = 16.0, .best_speed = 16.0}};
}
const plan::PcieProfile kGen4 = {.up_rate = 25e9, .down_rate = 25e9, .both_rate = 43e9};

std::string text_of(const SystemState& state, const plan::PcieProfile& pcie = kGen4) {
  return findings_text(findings_of(state, &pcie));
}

TEST(Findings, OfAGoodMachine_AreNone) { EXPECT_EQ(text_of(good()), "nothing is wrong with this machine\n"); }

TEST(Findings, SayWhatIsWrongAndHowToMendIt) {
  SystemState locked = good(), bound = good(), grouped = good(), swap = good(), swapping = good(), pages = good(),
              narrow = good();
  locked.locked_bytes = 8 << 20;
  bound.usable_cpus = 2;
  grouped.room_bytes = 4 * kGiB;
  swap.swap_bytes = swap.free_swap_bytes = 128 * kGiB;
  swapping.free_swap_bytes = 2 * kGiB;
  pages.huge_pages = false;
  narrow.gpu_link->width = 8;

  EXPECT_THAT(text_of(locked), AllOf(HasSubstr("only 8.00 MiB"), HasSubstr("memlock")));
  EXPECT_THAT(text_of(bound), AllOf(HasSubstr("2 of 16 CPUs"), HasSubstr("--cpus-per-task")));
  EXPECT_THAT(text_of(grouped), AllOf(HasSubstr("4.00 GiB of the machine's 64.00 GiB"), HasSubstr("--mem")));
  EXPECT_THAT(text_of(swap), AllOf(HasSubstr("128.00 GiB of swap"), HasSubstr("memory.host")));
  EXPECT_THAT(text_of(swapping), HasSubstr("6.00 GiB is swapped out"));
  EXPECT_THAT(text_of(pages), HasSubstr("transparent_hugepage/enabled"));
  EXPECT_THAT(text_of(narrow), AllOf(HasSubstr("8 PCIe lanes and could have 16"), HasSubstr("slot")));
}

TEST(Findings, ASlowLink_IsMeasuredAgainstItsLanes) {
  SystemState state = good();

  EXPECT_THAT(text_of(state, {.up_rate = 25e9, .down_rate = 6e9, .both_rate = 12e9}),
              AllOf(HasSubstr("6.0 GB/s"), HasSubstr("16 lanes of 16 GT/s carry 31.5")));
  state.gpu_link = PciLink{.width = 16, .best_width = 16, .speed = 8.0, .best_speed = 8.0};
  EXPECT_EQ(text_of(state, {.up_rate = 12e9, .down_rate = 12e9, .both_rate = 20e9}), findings_text({}));
}

TEST(Findings, WithoutAMeasurement_LanesAreStillCounted) {
  SystemState state = good();
  state.gpu_link->width = 4;

  EXPECT_EQ(findings_of(state, nullptr).size(), 1U);
}

TEST(ReadSystemState, ReadsTheLinkOfAGpu) {
  const test::ScratchDirectory devices;
  std::filesystem::create_directories(devices.file("0000:1b:00.0"));
  write_text(devices.file("0000:1b:00.0/current_link_width"), "8\n");
  write_text(devices.file("0000:1b:00.0/max_link_width"), "16\n");
  write_text(devices.file("0000:1b:00.0/current_link_speed"), "16.0 GT/s PCIe\n");
  write_text(devices.file("0000:1b:00.0/max_link_speed"), "32.0 GT/s PCIe\n");

  const SystemState with_gpu = read_system_state("0000:1B:00.0", devices.path());

  ASSERT_TRUE(with_gpu.gpu_link);
  EXPECT_EQ(with_gpu.gpu_link->width, 8);
  EXPECT_EQ(with_gpu.gpu_link->best_width, 16);
  EXPECT_EQ(with_gpu.gpu_link->speed, 16.0);
  EXPECT_FALSE(read_system_state("0000:2c:00.0", devices.path()).gpu_link);
  EXPECT_FALSE(read_system_state("", devices.path()).gpu_link);
}

TEST(ReadSystemState, KnowsThisMachine) {
  const SystemState state = read_system_state("");

  EXPECT_GE(state.usable_cpus, 1);
  EXPECT_GE(state.online_cpus, state.usable_cpus);
  EXPECT_GT(state.memory_bytes, kGiB / 4);
  EXPECT_LE(state.free_swap_bytes, state.swap_bytes);
}

TEST(MeasureStore, OfADirectory_FindsRatesAndLeavesNothing) {
  const test::ScratchDirectory folder;
  if (folder.in_memory()) GTEST_SKIP() << "the folder of tests is in memory";
  std::vector<Finding> findings;

  const StoreMeasures measures = measure_store({folder.path()}, std::chrono::milliseconds(20), findings);

  ASSERT_TRUE(measures.drives) << findings_text(findings);
  EXPECT_GT(measures.drives->read_rate, 0.0);
  EXPECT_GT(measures.drives->write_rate, 0.0);
  EXPECT_GT(measures.drives->both_rate, 0.0);
  EXPECT_EQ(measures.depths.size(), 3U);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(MeasureStore, ADirectoryThatCannotHoldState_IsAFinding) {
  const test::ScratchDirectory folder;
  std::vector<Finding> findings;

  const StoreMeasures measures =
      measure_store({folder.file("missing"), "/dev/shm"}, std::chrono::milliseconds(20), findings);

  EXPECT_FALSE(measures.drives);
  EXPECT_THAT(findings_text(findings), AllOf(HasSubstr("missing"), HasSubstr("offload.nvme_dirs")));
  EXPECT_GE(findings.size(), 2U);
}

TEST(MeasureHost, FindsRates) {
  const plan::HostProfile host = measure_host(1);

  EXPECT_EQ(host.cores, 1);
  EXPECT_GT(host.memory_bytes, 0U);
  EXPECT_GT(host.memory_rate, 1e8);
  EXPECT_GT(host.adamw_rate, 1e6);
  EXPECT_GT(host.adamw_bf16_rate, 1e6);
  EXPECT_GT(host.adamw_int8_rate, 1e6);
  EXPECT_GT(host.product_flops, 1e8);
}

TEST(MeasureHost, CopiesBesideAdamW_AreCountedWithIt) {
  const auto device = make_host_device();

  EXPECT_GT(memory_rate_beside_copies(*device, 1), 1e8);
}

}  // namespace
}  // namespace spillway::train
