// SPDX-License-Identifier: Apache-2.0
#include "core/text_file.hpp"

#include <gmock/gmock.h>

#include "core/error.hpp"
#include "support/temp_dir.hpp"

namespace spillway {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(TextFile, WhatIsWritten_IsRead) {
  const test::TempDir folder;
  const std::string path = (folder.path() / "a.txt").string();
  const std::string text = std::string("a\r\nb\0c", 6) + "\xff";

  write_text(path, "older and longer than the other");
  write_text(path, text);

  EXPECT_EQ(read_text(path), text);
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST(TextFile, AnEmptyOne_IsEmpty) {
  const test::TempDir folder;
  const std::string path = (folder.path() / "a.txt").string();

  write_text(path, "");

  EXPECT_EQ(read_text(path), "");
}

TEST(TextFile, WhatCannotBeRead_IsNamed) {
  const test::TempDir folder;

  EXPECT_THAT([&] { (void)read_text((folder.path() / "none").string()); },
              ThrowsMessage<DataError>(HasSubstr("none: cannot be read: No such file or directory")));
  EXPECT_THAT([&] { (void)read_text(folder.path().string()); },
              ThrowsMessage<DataError>(HasSubstr("is a folder, a file was expected")));
}

TEST(TextFile, WhatCannotBeWritten_IsNamedAndLeavesNothing) {
  const test::TempDir folder;
  const std::string inside = (folder.path() / "none" / "a.txt").string();
  const std::filesystem::path taken = folder.path() / "taken";
  std::filesystem::create_directories(taken / "full");

  EXPECT_THAT([&] { write_text(inside, "x"); }, ThrowsMessage<IoError>(HasSubstr("none/a.txt: cannot be written")));
  EXPECT_THAT([&] { write_text(taken.string(), "x"); }, ThrowsMessage<IoError>(HasSubstr("taken: cannot be written")));
  EXPECT_FALSE(std::filesystem::exists(taken.string() + ".tmp"));
}

}  // namespace
}  // namespace spillway
