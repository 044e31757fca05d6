// SPDX-License-Identifier: Apache-2.0
// Bad training and evaluation data: exit code 4, with file and line.
#include <gmock/gmock.h>

#include "app/workplace.hpp"

namespace spillway::test {
namespace {

using ::testing::HasSubstr;

class ProgramData : public testing::TestWithParam<int> {
 protected:
  void expect_refused(const ProgramResult& result, const std::string& message) {
    EXPECT_EQ(result.exit_code, 4) << describe(result);
    EXPECT_THAT(result.err, HasSubstr(message));
    EXPECT_EQ(result.err.find(message), result.err.rfind(message)) << "said more than once\n" << describe(result);
    EXPECT_FALSE(place_.exists("out/checkpoints"));
  }

  int ranks_ = GetParam();
  Workplace place_;
};

INSTANTIATE_TEST_SUITE_P(Ranks, ProgramData, testing::Values(1, 2));

TEST_P(ProgramData, AMissingFile_IsNamed) {
  expect_refused(place_.train(ranks_, {"data.train=data/nope"}),
                 "data/nope.source: cannot open: No such file or directory");
}

TEST_P(ProgramData, AMissingJsonlFile_IsNamed) {
  expect_refused(place_.train(ranks_, {"data.train=data/nope.jsonl"}),
                 "data/nope.jsonl: cannot open: No such file or directory");
}

TEST_P(ProgramData, FilesOfDifferentLength_AreNamedWithTheirLines) {
  place_.write("data/train.target", place_.read("data/train.target") + "una in plus\n");

  expect_refused(place_.train(ranks_),
                 "data/train.source:31: the file ends before this line: it has 30 lines, data/train.target has 31");
}

TEST_P(ProgramData, AnEmptyLine_IsNamed) {
  place_.write("data/train.target", "un\n" + place_.read("data/train.target"));
  place_.write("data/train.source", "\n" + place_.read("data/train.source"));

  expect_refused(place_.train(ranks_), "data/train.source:1: empty line where a source was expected");
}

TEST_P(ProgramData, BadUtf8InTrainingData_IsNamed) {
  place_.write("data/train.source", "fine\nnot \xff fine\n");
  place_.write("data/train.target", "a\nb\n");

  expect_refused(place_.train(ranks_), "data/train.source:2: ");
}

TEST_P(ProgramData, BadUtf8InHeldOutData_IsNamedBeforeTraining) {
  place_.write("data/val.source", "fine\nfine\nnot \xc0\xaf fine\n");
  place_.write("data/val.target", "a\nb\nc\n");

  expect_refused(place_.train(ranks_), "data/val.source:3: ");
}

TEST_P(ProgramData, AJsonlLineWithoutTheKey_IsNamed) {
  place_.write("data/train.jsonl",
               "{\"translation\": {\"en\": \"one\", \"ro\": \"un\"}}\n{\"translation\": {\"en\": \"two\"}}\n");

  expect_refused(place_.train(ranks_, {"data.train=data/train.jsonl", "data.source_key=translation.en",
                                       "data.target_key=translation.ro"}),
                 "data/train.jsonl:2: looking for \"translation.ro\": there is no key \"ro\"");
}

TEST_P(ProgramData, NoTrainingData_IsAnErrorOfTheConfiguration) {
  const ProgramResult result = place_.train(ranks_, {"data.train="});

  EXPECT_EQ(result.exit_code, 2) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("data.train is not set: name BASE of BASE.source and BASE.target"));
}

}  // namespace
}  // namespace spillway::test
