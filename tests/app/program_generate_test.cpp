// SPDX-License-Identifier: Apache-2.0
// generate: one line for each line, from a file and from standard input, as text and as ids.
#include <algorithm>
#include <set>
#include <sstream>

#include <gmock/gmock.h>

#include "app/workplace.hpp"

namespace spillway::test {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::SizeIs;

constexpr const char* kSources = "one red cat\n\ntwo old dogs\nthree houses\n\n";

/// The model is one of the reference models; the tests only read it.
const Workplace& place() {
  static const Workplace made;
  static const bool written = (made.write("sources.txt", kSources), true);
  EXPECT_TRUE(written);
  return made;
}

ProgramCall call(int ranks, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"generate", "--model",      "pretrained", "--tokenizer",
                                        "bytes",    "--max-length", "20",         "--per-device-eval-batch-size",
                                        "2"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return place().call(ranks, arguments);
}

/// The lines of a run that ends well.
std::vector<std::string> lines(const ProgramCall& asked) {
  const ProgramResult result = run_program(asked);
  EXPECT_EQ(result.exit_code, 0) << describe(result);
  return lines_of(result.out);
}

class ProgramGenerate : public testing::TestWithParam<int> {};

INSTANTIATE_TEST_SUITE_P(Ranks, ProgramGenerate, testing::Values(1, 2));

TEST_P(ProgramGenerate, FromAFile_GivesALineForEachLine) {
  EXPECT_THAT(lines(call(GetParam(), {"--input", "sources.txt"})), SizeIs(5));
}

TEST_P(ProgramGenerate, FromStandardInput_GivesTheSame) {
  ProgramCall from_input = call(GetParam(), {"--input", "-"});
  from_input.input = kSources;

  EXPECT_EQ(lines(from_input), lines(call(GetParam(), {"--input", "sources.txt"})));
}

TEST_P(ProgramGenerate, IntoAFile_WritesWhatItWouldPrint) {
  const std::string output = "output-" + std::to_string(GetParam());

  const ProgramResult result = run_program(call(GetParam(), {"--input", "sources.txt", "--output", output}));

  EXPECT_EQ(result.exit_code, 0) << describe(result);
  EXPECT_THAT(result.out, IsEmpty());
  EXPECT_EQ(lines_of(place().read(output)), lines(call(GetParam(), {"--input", "sources.txt"})));
}

TEST_P(ProgramGenerate, WithIds_BeginsAtTheStartToken) {
  const auto ids = lines(call(GetParam(), {"--input", "sources.txt", "--ids"}));

  EXPECT_THAT(ids, SizeIs(5));
  EXPECT_THAT(ids, Each(MatchesRegex("0( [0-9]+)+")));
}

TEST_P(ProgramGenerate, WithScores_PutsThemAndATabInFront) {
  const auto scored = lines(call(GetParam(), {"--input", "sources.txt", "--scores", "--ids", "--num-beams", "4"}));

  EXPECT_THAT(scored, SizeIs(5));
  EXPECT_THAT(scored, Each(MatchesRegex("-[0-9]+\\.[0-9]+\t0( [0-9]+)+")));
}

TEST_P(ProgramGenerate, OfNoLines_GivesNone) {
  EXPECT_THAT(lines(call(GetParam(), {"--input", "/dev/null"})), IsEmpty());
}

TEST_P(ProgramGenerate, OfNoLines_WritesAnEmptyFile) {
  const std::string output = "empty-" + std::to_string(GetParam());
  place().write(output, "of an earlier run\n");

  const ProgramResult result = run_program(call(GetParam(), {"--input", "/dev/null", "--output", output}));

  EXPECT_EQ(result.exit_code, 0) << describe(result);
  EXPECT_EQ(place().read(output), "");
}

TEST_P(ProgramGenerate, WhenItFails_LeavesTheOutputAsItWas) {
  const std::string output = "kept-" + std::to_string(GetParam());
  place().write(output, "of an earlier run\n");

  // The decoder's memory does not fit: an error after the output was opened.
  ProgramCall too_long = call(GetParam(), {"--input", "sources.txt", "--output", output, "--num-beams", "1000"});
  std::ranges::replace(too_long.command, "20", "1048576");

  const ProgramResult result = run_program(too_long);

  EXPECT_EQ(result.exit_code, 3) << describe(result);
  EXPECT_EQ(place().read(output), "of an earlier run\n");
  EXPECT_FALSE(place().exists(output + ".spillway-new"));
}

TEST_P(ProgramGenerate, AnInputThatCannotBeReadToItsEnd_IsAnError) {
  const ProgramResult file = run_program(call(GetParam(), {"--input", "/proc/self/mem"}));
  EXPECT_EQ(file.exit_code, 5) << describe(file);
  EXPECT_THAT(file.err, HasSubstr("/proc/self/mem: reading failed after 0 lines"));

  if (GetParam() > 1) return;  // the launcher's standard input is not ours
  ProgramCall from_folder = call(1, {});
  from_folder.command.insert(from_folder.command.begin(), {"sh", "-c", "exec \"$@\" < .", "sh"});
  const ProgramResult input = run_program(from_folder);
  EXPECT_EQ(input.exit_code, 5) << describe(input);
  EXPECT_THAT(input.err, HasSubstr("standard input: reading failed after 0 lines: Is a directory"));
}

TEST_P(ProgramGenerate, AnOutputThatCannotBeWritten_IsSaidBeforeTheModelIsRead) {
  ProgramCall wrong = call(GetParam(), {"--input", "sources.txt", "--output", "nowhere/out"});
  std::ranges::replace(wrong.command, "pretrained", "nowhere");

  const ProgramResult result = run_program(wrong);

  EXPECT_EQ(result.exit_code, 5) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("nowhere/out: cannot be written: No such file or directory"));
}

TEST_P(ProgramGenerate, OntoAFullDisk_IsAnError) {
  const ProgramResult result = run_program(call(GetParam(), {"--input", "sources.txt", "--output", "/dev/full"}));

  EXPECT_EQ(result.exit_code, 5) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("/dev/full: cannot be written: No space left on device"));
}

TEST_P(ProgramGenerate, TakesKeysFromTheEnvironmentToo) {
  ProgramCall asked = call(GetParam(), {"--input", "sources.txt"});
  asked.environment["SPILLWAY_EVAL_NUM_BEAMS"] = "none";

  const ProgramResult result = run_program(asked);

  EXPECT_EQ(result.exit_code, 2) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("SPILLWAY_EVAL_NUM_BEAMS: eval.num_beams = \"none\": expected"));
}

TEST_P(ProgramGenerate, BadUtf8_IsNamedWithItsLine) {
  ProgramCall bad = call(GetParam(), {});
  bad.input = "fine\n\xff\n";

  const ProgramResult result = run_program(bad);

  EXPECT_EQ(result.exit_code, 4) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("standard input:2: not valid UTF-8"));
}

TEST_P(ProgramGenerate, AMissingInput_IsNamed) {
  const ProgramResult result = run_program(call(GetParam(), {"--input", "nope.txt"}));

  EXPECT_EQ(result.exit_code, 4) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("nope.txt: cannot be read: No such file or directory"));
}

TEST_P(ProgramGenerate, AnOutputThatCannotBeWritten_IsNamed) {
  const ProgramResult result = run_program(call(GetParam(), {"--input", "sources.txt", "--output", "sources.txt/out"}));

  EXPECT_EQ(result.exit_code, 5) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("sources.txt/out: cannot be written: Not a directory"));
}

TEST_P(ProgramGenerate, SeveralSequences_ComeItemByItemTheBestFirst) {
  const std::vector<std::string> asked = {"--input", "sources.txt", "--scores", "--ids", "--num-beams", "3"};
  std::vector<std::string> several = asked;
  several.insert(several.end(), {"--num-return-sequences", "2"});

  const auto best = lines(call(GetParam(), asked));
  const auto both = lines(call(GetParam(), several));

  ASSERT_THAT(both, SizeIs(10));
  for (std::size_t item = 0; item < best.size(); ++item) {
    EXPECT_EQ(both[2 * item], best[item]);
    EXPECT_GE(std::stod(both[2 * item]), std::stod(both[2 * item + 1]));
    EXPECT_NE(both[2 * item], both[2 * item + 1]);
  }
}

TEST_P(ProgramGenerate, MoreSequencesThanBeams_AreRefused) {
  const ProgramResult result =
      run_program(call(GetParam(), {"--input", "sources.txt", "--num-beams", "2", "--num-return-sequences", "3"}));

  EXPECT_EQ(result.exit_code, 2) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("eval.num_return_sequences: expected 1 to eval.num_beams, which is 2, found 3"));
}

TEST_P(ProgramGenerate, ProcessorsAreTakenFromTheFlags) {
  const auto tokens = [](const std::string& line) { return std::count(line.begin(), line.end(), ' '); };
  const std::vector<std::string> asked = {"--input", "sources.txt", "--ids", "--num-beams", "1"};
  std::vector<std::string> longer = asked;
  longer.insert(longer.end(), {"--min-length", "18"});
  std::vector<std::string> unrepeated = asked;
  unrepeated.insert(unrepeated.end(), {"--no-repeat-ngram-size", "1"});

  for (const std::string& line : lines(call(GetParam(), longer))) EXPECT_GE(tokens(line), 18) << line;
  for (const std::string& line : lines(call(GetParam(), unrepeated))) {
    std::set<std::string> once;
    std::istringstream words(line);
    for (std::string word; words >> word;) EXPECT_TRUE(once.insert(word).second) << line;
  }
}

TEST_P(ProgramGenerate, ATask_GivesPrefixAndSettingsThatNoFlagGives) {
  const std::vector<std::string> with_task = {"--input", "sources.txt", "--scores",
                                              "--ids",   "--task",      "translation_en_to_ro"};
  std::vector<std::string> other_prefix = with_task;
  other_prefix.insert(other_prefix.end(), {"--source-prefix", ""});
  const std::vector<std::string> by_hand = {"--input",     "sources.txt", "--scores",         "--ids",
                                            "--num-beams", "4",           "--early-stopping", "true"};
  std::vector<std::string> prefix_by_hand = by_hand;
  prefix_by_hand.insert(prefix_by_hand.end(), {"--source-prefix", "translate English to Romanian: "});

  EXPECT_EQ(lines(call(GetParam(), with_task)), lines(call(GetParam(), prefix_by_hand)));
  EXPECT_EQ(lines(call(GetParam(), other_prefix)), lines(call(GetParam(), by_hand)));
  EXPECT_NE(lines(call(GetParam(), by_hand)), lines(call(GetParam(), prefix_by_hand)));
}

TEST_P(ProgramGenerate, AnUnknownTask_IsRefusedWithTheNearest) {
  const ProgramResult result =
      run_program(call(GetParam(), {"--input", "sources.txt", "--task", "translation_en_to_ru"}));

  EXPECT_EQ(result.exit_code, 2) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("the nearest is \"translation_en_to_ro\""));
}

TEST(ProgramGenerateOnTwoRanks, GivesWhatOneGives) {
  for (const char* beams : {"1", "4"}) {
    const std::vector<std::string> asked = {"--input", "sources.txt", "--scores", "--ids", "--num-beams", beams};
    EXPECT_EQ(lines(call(2, asked)), lines(call(1, asked))) << beams << " beams";
  }
}

}  // namespace
}  // namespace spillway::test
