// SPDX-License-Identifier: Apache-2.0
#include "core/text_file.hpp"

#include <gmock/gmock.h>

#include "core/error.hpp"
#include "support/scratch_directory.hpp"

namespace spillway {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(TextFile, WhatIsWritten_IsRead) {
  const test::ScratchDirectory folder;
  const std::string path = folder.file("a.txt");
  const std::string text = std::string("a\r\nb\0c", 6) + "\xff";

  write_text(path, "older and longer than the other");
  write_text(path, text);

  EXPECT_EQ(read_text(path), text);
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST(TextFile, AnEmptyOne_IsEmpty) {
  const test::ScratchDirectory folder;
  const std::string path = folder.file("a.txt");

  write_text(path, "");

  EXPECT_EQ(read_text(path), "");
}

TEST(TextFile, WhatCannotBeRead_IsNamed) {
  const test::ScratchDirectory folder;

  EXPECT_THAT([&] { (void)read_text(folder.file("none")); },
              ThrowsMessage<DataError>(HasSubstr("none: cannot be read: No such file or directory")));
  EXPECT_THAT([&] { (void)read_text(folder.path()); },
              ThrowsMessage<DataError>(HasSubstr("is a folder, a file was expected")));
}

TEST(TextFile, NamesThatNoFileCanHave_AreErrorsOfTheData) {
  const test::ScratchDirectory folder;
  std::filesystem::create_symlink("loop", folder.file("loop"));

  EXPECT_THAT([&] { (void)read_text(folder.file("loop")); },
              ThrowsMessage<DataError>(HasSubstr("loop: cannot be read")));
  EXPECT_THAT([&] { (void)read_text(folder.file(std::string(300, 'n'))); },
              ThrowsMessage<DataError>(HasSubstr("nnn: cannot be read")));
}

TEST(TextFile, WhatCannotBeWritten_IsNamedAndLeavesNothing) {
  const test::ScratchDirectory folder;
  const std::string inside = folder.file("none/a.txt");
  const std::filesystem::path taken = folder.file("taken");
  std::filesystem::create_directories(taken / "full");

  EXPECT_THAT([&] { write_text(inside, "x"); }, ThrowsMessage<IoError>(HasSubstr("none/a.txt: cannot be written")));
  EXPECT_THAT([&] { write_text(taken.string(), "x"); }, ThrowsMessage<IoError>(HasSubstr("taken: cannot be written")));
  EXPECT_FALSE(std::filesystem::exists(taken.string() + ".tmp"));
}

}  // namespace
}  // namespace spillway
