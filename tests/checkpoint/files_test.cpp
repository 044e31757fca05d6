// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/files.hpp"

#include <array>
#include <filesystem>

#include <fcntl.h>
#include <gmock/gmock.h>

#include "checkpoint/fixtures.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Files, WriteTextDurably_ReplacesTheFileAndLeavesNothingElse) {
  const ScratchFolder folder;
  write_text_durably(folder / "LATEST", "a longer first text");

  write_text_durably(folder / "LATEST", "second");

  EXPECT_EQ(read_text(folder / "LATEST"), "second");
  EXPECT_THAT(names_in(folder.path()), ElementsAre("LATEST"));
}

TEST(Files, WriteTextDurably_KeepsTheOldFileWhenItFails) {
  const ScratchFolder folder;
  write_text_durably(folder / "LATEST", "first");
  write_text_durably(folder / "other", "");

  EXPECT_THROW(write_text_durably(folder / "other/LATEST", "second"), IoError);
  EXPECT_EQ(read_text(folder / "LATEST"), "first");
}

TEST(Files, ReadFully_SaysWhereTheFileEnds) {
  const ScratchFolder folder;
  write_text_durably(folder / "short", "0123456789");
  std::array<std::byte, 8> bytes{};

  const std::string message =
      message_of<IoError>([&] { read_fully(open_file(folder / "short", O_RDONLY), "short", 4, bytes); });

  EXPECT_THAT(message, HasSubstr("short: the file ends at byte 10, expected 8 bytes at 4"));
}

TEST(Files, WriteFully_ReportsAFullDisk) {
  const std::array<std::byte, 8> bytes{};

  const std::string message =
      message_of<IoError>([&] { write_fully(open_file("/dev/full", O_WRONLY), "/dev/full", 0, bytes); });

  EXPECT_THAT(message, HasSubstr("No space left on device"));
}

TEST(Files, PutInPlace_ReplacesAFolderAndKeepsItUnderOneOfTheOtherNames) {
  const ScratchFolder folder;
  for (const char* name : {"made", "place"}) {
    std::filesystem::create_directory(folder / name);
    write_text_durably(folder / (std::string(name) + "/file"), name);
  }

  put_in_place(folder / "made", folder / "place", folder / "replaced");

  EXPECT_EQ(read_text(folder / "place/file"), "made");
  const std::string old = std::filesystem::exists(folder / "made") ? "made" : "replaced";
  EXPECT_EQ(read_text(folder / (old + "/file")), "place");
  EXPECT_EQ(names_in(folder.path()).size(), 2U);
}

TEST(Files, ExchangePaths_SwapsOrSaysThatItCannot) {
  const ScratchFolder folder;
  write_text_durably(folder / "a", "first");
  write_text_durably(folder / "b", "second");

  const bool swapped = exchange_paths(folder / "a", folder / "b");

  EXPECT_EQ(read_text(folder / "a"), swapped ? "second" : "first");
}

TEST(Files, TypeOfInput_TellsWhatIsThere_OrWhyItCannot) {
  const ScratchFolder folder;
  write_text_durably(folder / "file", "");
  std::filesystem::create_symlink("loop", folder / "loop");

  EXPECT_EQ(type_of_input(folder.path()), std::filesystem::file_type::directory);
  EXPECT_EQ(type_of_input(folder / "file"), std::filesystem::file_type::regular);
  EXPECT_EQ(type_of_input(folder / "missing"), std::filesystem::file_type::not_found);
  EXPECT_EQ(type_of_input(folder / "file/below"), std::filesystem::file_type::not_found);
  EXPECT_EQ(message_of<DataError>([&] { (void)type_of_input(folder / "loop/below"); }),
            (folder / "loop/below") + ": cannot be read: Too many levels of symbolic links");
}

TEST(Files, FolderOf_APlainNameIsTheCurrentFolder) {
  EXPECT_EQ(folder_of("name"), ".");
  EXPECT_EQ(folder_of("/a/b/name"), "/a/b");
}

}  // namespace
}  // namespace spillway::checkpoint
