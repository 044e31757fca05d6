// SPDX-License-Identifier: Apache-2.0
#include "train/machine.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <sys/statvfs.h>

#include "core/error.hpp"
#include "support/scratch_directory.hpp"
#include "train/job.hpp"

namespace spillway::train {
namespace {

namespace fs = std::filesystem;

class ControlGroup : public testing::Test {
 protected:
  void group(const std::string& name, const std::string& max, const std::string& current, const std::string& stat) {
    const fs::path folder = mount_.path() + name;
    fs::create_directories(folder);
    std::ofstream(folder / "memory.max") << max << "\n";
    std::ofstream(folder / "memory.current") << current << "\n";
    std::ofstream(folder / "memory.stat") << stat;
  }
  [[nodiscard]] std::optional<std::size_t> room(const std::string& name) const {
    return control_group_room(mount_.path(), "0::" + name + "\n");
  }
  void old_group(const std::string& name, const std::string& limit, const std::string& usage, const std::string& stat) {
    const fs::path folder = mount_.path() + "/memory" + name;
    fs::create_directories(folder);
    std::ofstream(folder / "memory.limit_in_bytes") << limit << "\n";
    std::ofstream(folder / "memory.usage_in_bytes") << usage << "\n";
    std::ofstream(folder / "memory.stat") << stat;
  }
  test::ScratchDirectory mount_;
};

TEST_F(ControlGroup, WithoutALimit_LeavesEverything) {
  group("/job", "max", "1000", "");

  EXPECT_EQ(room("/job"), std::nullopt);
  EXPECT_EQ(room("/elsewhere"), std::nullopt);
  EXPECT_EQ(room(""), std::nullopt);
}

TEST_F(ControlGroup, PageCacheThatCanBeGivenBack_IsFree) {
  group("/job", "10000", "9000", "anon 500\nfile 8500\ninactive_file 6000\nactive_file 2500\n");

  EXPECT_EQ(room("/job"), 7000U);
}

TEST_F(ControlGroup, TheTightestOfThoseAboveDecides) {
  group("/", "5000", "4900", "inactive_file 100\n");
  group("/job", "10000", "1000", "");
  group("/job/step", "max", "1000", "");

  EXPECT_EQ(room("/job/step"), 200U);
}

TEST_F(ControlGroup, ThatIsFull_LeavesNothing) {
  group("/job", "1000", "1200", "inactive_file 100\n");

  EXPECT_EQ(room("/job"), 0U);
}

TEST_F(ControlGroup, OfVersion1_LimitsToo) {
  old_group("/", "9223372036854771712", "8000", "");
  old_group("/slurm/job", "10000", "9000", "inactive_file 50\ntotal_inactive_file 6000\n");

  EXPECT_EQ(control_group_room(mount_.path(), "5:cpu,cpuacct:/\n4:memory:/slurm/job\n0::/\n"), 7000U);
  EXPECT_EQ(control_group_room(mount_.path(), "4:hugetlb,memory:/slurm/job\n"), 7000U);
  EXPECT_EQ(control_group_room(mount_.path(), "5:cpu:/slurm/job\n"), std::nullopt);
  EXPECT_EQ(control_group_room(mount_.path(), "no groups\n"), std::nullopt);
}

TEST_F(ControlGroup, OfBothVersions_TheTighterDecides) {
  group("/job", "5000", "1000", "");
  old_group("/job", "3000", "1000", "");

  EXPECT_EQ(control_group_room(mount_.path(), "4:memory:/job\n0::/job\n"), 2000U);
}

std::size_t free_on(const std::string& directory) {
  struct statvfs space {};
  EXPECT_EQ(statvfs(directory.c_str(), &space), 0);
  return static_cast<std::size_t>(space.f_bavail) * space.f_frsize;
}

TEST(FreeDisk, OfTwoFoldersOnOneDisk_IsNotCountedTwice) {
  const test::ScratchDirectory folder;
  const std::string one = folder.path(), other = one + "/other";
  fs::create_directory(other);

  // Others write to the disk meanwhile.
  EXPECT_LT(free_disk_bytes({one, other}), free_on(one) + free_on(one) / 4);
  EXPECT_EQ(free_disk_bytes({}), 0U);
  EXPECT_THROW((void)free_disk_bytes({one, one + "/nowhere"}), ConfigError);
}

TEST(FreeDisk, OfTwoDisks_IsTwiceTheSmaller) {
  const std::string one = ".", other = "/dev/shm";
  if (!fs::is_directory(other)) GTEST_SKIP() << "there is no " << other;
  const std::size_t smaller = std::min(free_on(one), free_on(other)), larger = std::max(free_on(one), free_on(other));
  if (larger < 2 * smaller) GTEST_SKIP() << "the two have about the same room";

  EXPECT_LT(free_disk_bytes({one, other}), 2 * smaller + smaller / 4);
}

TEST(NvmeDirectories, AnEmptySlurmTmpdir_IsNone) {
  ASSERT_EQ(setenv("SLURM_TMPDIR", "", 1), 0);
  EXPECT_TRUE(nvme_directories({}).empty());
  ASSERT_EQ(setenv("SLURM_TMPDIR", "/scratch", 1), 0);
  EXPECT_THAT(nvme_directories({}), testing::ElementsAre("/scratch"));
  unsetenv("SLURM_TMPDIR");
}

}  // namespace
}  // namespace spillway::train
