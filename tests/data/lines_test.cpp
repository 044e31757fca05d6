// SPDX-License-Identifier: Apache-2.0
#include "data/lines.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.hpp"
#include "data/text_folder.hpp"

namespace spillway::data {
namespace {

using testing::HasSubstr;

TEST(LineReader, Next_GivesLinesWithoutTheirEnds) {
  const TextFolder folder;
  LineReader reader(folder.write("text", "unu\r\ndoi\n\n\rtrei"));

  EXPECT_EQ(reader.line(), 0);
  EXPECT_EQ(reader.next(), "unu");
  EXPECT_EQ(reader.next(), "doi");
  EXPECT_EQ(reader.next(), "");
  EXPECT_EQ(reader.next(), "\rtrei") << "only a CR before the LF belongs to the line's end";
  EXPECT_EQ(reader.line(), 4);
  EXPECT_EQ(reader.next(), std::nullopt);
  EXPECT_EQ(reader.line(), 4);
}

TEST(LineReader, Next_AfterLastLineEnd_GivesNoEmptyLine) {
  const TextFolder folder;
  LineReader reader(folder.write("text", "unu\n"));

  EXPECT_EQ(reader.next(), "unu");
  EXPECT_EQ(reader.next(), std::nullopt);
}

TEST(LineReader, Next_OnBadUtf8_NamesFileLineAndByte) {
  const TextFolder folder;
  const std::string path = folder.write("text", "bine\nr\xE3u\n");
  LineReader reader(path);
  (void)reader.next();

  const std::string message = message_of<DataError>([&] { (void)reader.next(); });

  EXPECT_EQ(message, path + ":2: not valid UTF-8: byte 2 of the line is 0xE3");
}

TEST(LineReader, Open_OfMissingFileOrFolder_NamesIt) {
  const TextFolder folder;
  const std::string missing = folder.file("missing");

  EXPECT_EQ(message_of<DataError>([&] { LineReader reader(missing); }),
            missing + ": cannot open: No such file or directory");
  EXPECT_THAT(message_of<DataError>([&] { LineReader reader(folder.file("")); }), HasSubstr("is a folder"));
}

}  // namespace
}  // namespace spillway::data
