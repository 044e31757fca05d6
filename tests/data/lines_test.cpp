// SPDX-License-Identifier: Apache-2.0
#include "data/lines.hpp"

#include <istream>
#include <sstream>
#include <stdexcept>
#include <streambuf>

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

TEST(LineReader, OfAnOpenStream_GivesItsLines_AndCallsItByItsName) {
  std::istringstream stream("unu\ndoi\r\n\xFF");
  LineReader reader("standard input", stream);

  EXPECT_EQ(reader.next(), "unu");
  EXPECT_EQ(reader.next(), "doi");
  EXPECT_THAT(message_of<DataError>([&] { (void)reader.next(); }), testing::StartsWith("standard input:3: not valid"));
}

/// A stream whose device fails after one line.
class FailingBuffer : public std::streambuf {
 public:
  FailingBuffer() { setg(line_, line_, line_ + sizeof(line_)); }

 protected:
  int_type underflow() override { throw std::runtime_error("the device failed"); }

 private:
  char line_[4] = {'u', 'n', 'u', '\n'};
};

TEST(LineReader, Next_WhereReadingFails_IsNoEndOfTheFile) {
  FailingBuffer buffer;
  std::istream stream(&buffer);
  LineReader reader("standard input", stream);

  EXPECT_EQ(reader.next(), "unu");
  EXPECT_THAT(message_of<IoError>([&] { (void)reader.next(); }), HasSubstr("standard input:2: cannot read"));
}

}  // namespace
}  // namespace spillway::data
