// SPDX-License-Identifier: Apache-2.0
#include "support/scratch_directory.hpp"

#include <optional>

#include <gtest/gtest.h>

namespace spillway::test {
namespace {

TEST(ScratchDirectory, IsRemovedWithWhatItHolds) {
  std::optional<ScratchDirectory> directory(std::in_place);
  const std::string path = directory->path();
  const std::string file = directory->write("text", "four");
  ASSERT_EQ(file, path + "/text");
  ASSERT_EQ(std::filesystem::file_size(file), 4U);

  directory.reset();

  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(ScratchDirectory, TwoAreNeverTheSame) {
  const ScratchDirectory first, second;

  EXPECT_NE(first.path(), second.path());
}

TEST(ScratchDirectory, Write_WhereItCannot_Throws) {
  const ScratchDirectory directory;

  EXPECT_THROW(directory.write("no/such/folder", ""), std::filesystem::filesystem_error);
}

}  // namespace
}  // namespace spillway::test
