// SPDX-License-Identifier: Apache-2.0
#include "support/temp_dir.hpp"

#include <optional>

#include <gtest/gtest.h>

namespace spillway::test {
namespace {

TEST(TempDir, IsRemovedWithWhatItHolds) {
  std::optional<TempDir> directory(std::in_place);
  const std::filesystem::path file = directory->write("a/b.txt", "text");
  const std::filesystem::path path = directory->path();
  ASSERT_EQ(std::filesystem::file_size(file), 4U);

  directory.reset();

  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(TempDir, TwoAreNeverTheSame) {
  const TempDir first, second;

  EXPECT_NE(first.path(), second.path());
}

}  // namespace
}  // namespace spillway::test
