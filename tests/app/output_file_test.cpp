// SPDX-License-Identifier: Apache-2.0
#include "app/output_file.hpp"

#include <filesystem>

#include <gmock/gmock.h>

#include "core/error.hpp"
#include "core/text_file.hpp"
#include "support/scratch_directory.hpp"

namespace spillway::app {
namespace {

namespace fs = std::filesystem;

class OutputFileTest : public ::testing::Test {
 protected:
  [[nodiscard]] std::ptrdiff_t entries() const {
    return std::distance(fs::directory_iterator(folder_.path()), fs::directory_iterator());
  }
  const test::ScratchDirectory folder_;
  const std::string path_ = folder_.file("out.txt");
};

TEST_F(OutputFileTest, AppearsWhenItIsFinished) {
  OutputFile file(path_);
  EXPECT_FALSE(fs::exists(path_));

  file.finish("text");

  EXPECT_EQ(read_text(path_), "text");
  EXPECT_EQ(entries(), 1);
}

TEST_F(OutputFileTest, ThatIsNotFinished_LeavesWhatWasThere) {
  folder_.write("out.txt", "older");
  { const OutputFile file(path_); }

  EXPECT_EQ(read_text(path_), "older");
  EXPECT_EQ(entries(), 1);
}

TEST_F(OutputFileTest, ThatReplacesAFile_KeepsItsMode) {
  for (const fs::perms mode : {fs::perms::owner_read | fs::perms::owner_write,
                               fs::perms::owner_all | fs::perms::group_all | fs::perms::others_read}) {
    folder_.write("out.txt", "older");
    fs::permissions(path_, mode);

    OutputFile(path_).finish("newer");

    EXPECT_EQ(read_text(path_), "newer");
    EXPECT_EQ(fs::status(path_).permissions(), mode);
  }
}

TEST_F(OutputFileTest, ThatCannotBeOpened_IsNamed) {
  EXPECT_THROW(OutputFile(folder_.path()), IoError);
  EXPECT_THROW(OutputFile(folder_.file("none/out.txt")), IoError);
}

}  // namespace
}  // namespace spillway::app
