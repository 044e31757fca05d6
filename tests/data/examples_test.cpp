// SPDX-License-Identifier: Apache-2.0
#include "data/examples.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.hpp"
#include "data/text_folder.hpp"

namespace spillway::data {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;

class ExamplesTest : public testing::Test {
 protected:
  /// Writes BASE.source and BASE.target and gives BASE.
  std::string write_pair(std::string_view source, std::string_view target) {
    folder_.write("train.source", source);
    folder_.write("train.target", target);
    return folder_.file("train");
  }

  Examples read(const ExamplesOptions& options) const { return Examples::read(options, *tokenizer_); }

  std::string refusal(const ExamplesOptions& options) const {
    return message_of<DataError>([&] { (void)read(options); });
  }

  TextFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_ = make_byte_tokenizer();
};

TEST_F(ExamplesTest, Read_OfTwoFiles_GivesTokensWithEosAndTexts) {
  const std::string base = write_pair("ab\r\nc \r\n", "d\ne");

  const Examples examples = read({.paths = {base}, .source_prefix = "x"});

  ASSERT_EQ(examples.size(), 2);
  EXPECT_THAT(examples.source(0), ElementsAre(3 + 'x', 3 + 'a', 3 + 'b', 1));
  EXPECT_THAT(examples.target(0), ElementsAre(3 + 'd', 1));
  EXPECT_THAT(examples.source(1), ElementsAre(3 + 'x', 3 + 'c', 3 + ' ', 1));
  EXPECT_THAT(examples.target(1), ElementsAre(3 + 'e', 1));
  EXPECT_EQ(examples.source_text(1), "c ");
  EXPECT_EQ(examples.target_text(1), "e");
  EXPECT_EQ(examples.longest_source(), 4);
  EXPECT_EQ(examples.longest_target(), 2);
  EXPECT_EQ(examples.truncated_sources(), 0);
  EXPECT_EQ(examples.truncated_targets(), 0);
}

TEST_F(ExamplesTest, Read_OfLongLines_TruncatesKeepsEosAndCounts) {
  const std::string base = write_pair("abc\nabcd\nabcde\n", "abc\nab\na\n");

  const Examples examples = read({.paths = {base}, .max_source_length = 4, .max_target_length = 3});

  EXPECT_THAT(examples.source(0), ElementsAre(3 + 'a', 3 + 'b', 3 + 'c', 1));
  EXPECT_THAT(examples.source(2), ElementsAre(3 + 'a', 3 + 'b', 3 + 'c', 1));
  EXPECT_THAT(examples.target(0), ElementsAre(3 + 'a', 3 + 'b', 1));
  EXPECT_EQ(examples.truncated_sources(), 2);
  EXPECT_EQ(examples.truncated_targets(), 1);
  EXPECT_EQ(examples.longest_source(), 4);
  EXPECT_EQ(examples.longest_target(), 3);
  EXPECT_EQ(examples.source_text(2), "abcde");
  EXPECT_EQ(examples.target_text(0), "abc");
}

TEST_F(ExamplesTest, Read_OfJsonl_LooksInsideAtDots) {
  const std::string path = folder_.write("train.jsonl",
                                         "{\"translation\": {\"en\": \"a\", \"ro\": \"\\u0219\"}}\n"
                                         "{\"id\": 7, \"translation\": {\"ro\": \"b\", \"en\": \"c\"}}");

  const Examples examples = read({.paths = {path}, .source_key = "translation.en", .target_key = "translation.ro"});

  ASSERT_EQ(examples.size(), 2);
  EXPECT_THAT(examples.source(0), ElementsAre(3 + 'a', 1));
  EXPECT_EQ(examples.target_text(0), "ș");
  EXPECT_EQ(examples.source_text(1), "c");
}

TEST_F(ExamplesTest, Read_OfTsv_SplitsAtTheTab) {
  const std::string path = folder_.write("train.tsv", "a b\tc\r\n d\te ");

  const Examples examples = read({.paths = {path}});

  ASSERT_EQ(examples.size(), 2);
  EXPECT_THAT(examples.source(0), ElementsAre(3 + 'a', 3 + ' ', 3 + 'b', 1));
  EXPECT_THAT(examples.target(0), ElementsAre(3 + 'c', 1));
  EXPECT_EQ(examples.source_text(1), " d");
  EXPECT_EQ(examples.target_text(1), "e ");
}

TEST_F(ExamplesTest, Read_OfBadTsv_NamesLineAndReason) {
  const auto refusal_of = [&](const std::string& second) {
    const std::string path = folder_.write("bad.tsv", "a\tb\n" + second + "\n");
    const std::string message = refusal({.paths = {path}});
    EXPECT_THAT(message, HasSubstr(path + ":2: "));
    return message;
  };

  EXPECT_THAT(refusal_of("ab"), HasSubstr("one tab between source and target was expected, found 0"));
  EXPECT_THAT(refusal_of("a\tb\tc"), HasSubstr("one tab between source and target was expected, found 2"));
  EXPECT_THAT(refusal_of(""), HasSubstr("empty line"));
  EXPECT_THAT(refusal_of(" \tb"), HasSubstr("the source before the tab is empty"));
  EXPECT_THAT(refusal_of("a\t"), HasSubstr("the target after the tab is empty"));
}

TEST_F(ExamplesTest, Read_OfSeveralFiles_TakesThemInOrder) {
  const std::string base = write_pair("a\nb\n", "c\nd\n");
  const std::string tsv = folder_.write("more.tsv", "e\tf\n");
  const std::string jsonl = folder_.write("last.jsonl", "{\"source\":\"g\",\"target\":\"h\"}\n");
  const auto sources = [&](const ExamplesOptions& options) {
    const Examples examples = read(options);
    std::string all;
    for (std::int64_t i = 0; i < examples.size(); ++i) all += examples.source_text(i);
    return all;
  };

  EXPECT_EQ(sources({.paths = {jsonl, base, tsv}}), "gabe");
  EXPECT_EQ(sources({.paths = {tsv, base, folder_.file("never opened")}, .max_samples = 2}), "ea");
  EXPECT_EQ(refusal({.paths = {tsv, folder_.file("no.tsv")}}),
            folder_.file("no.tsv") + ": cannot open: No such file or directory");
}

TEST_F(ExamplesTest, Read_OfATokenThatTheModelDoesNotKnow_NamesItsLine) {
  const std::string base = write_pair("a\na\n", "a\nb\n");

  EXPECT_EQ(refusal({.paths = {base}, .vocabulary = 3 + 'b'}),
            base + ".target:2: the tokenizer gives id 101, but the model's vocab_size is 101");
  EXPECT_EQ(read({.paths = {base}, .vocabulary = 3 + 'b' + 1}).size(), 2);
}

TEST_F(ExamplesTest, Read_OfMaxSamples_TakesTheFirst) {
  const std::string base = write_pair("a\nb\n\n", "c\nd\ne\n");
  const std::string path = folder_.write("train.jsonl", "{\"source\":\"a\",\"target\":\"b\"}\nnot read\n");

  EXPECT_EQ(read({.paths = {base}, .max_samples = 2}).size(), 2);
  EXPECT_EQ(read({.paths = {path}, .max_samples = 1}).size(), 1);
}

TEST_F(ExamplesTest, Read_WithoutTexts_HoldsOnlyTokens) {
  const std::string base = write_pair("abcdef\n", "cd\n");

  const Examples without = read({.paths = {base}, .keep_text = false});
  const Examples with = read({.paths = {base}});

  EXPECT_EQ(without.bytes(), (7 + 3) * 4 + 2 * 8U);
  EXPECT_EQ(with.bytes(), without.bytes() + (6 + 2) + 2 * 8U);
  EXPECT_THAT(message_of<Error>([&] { (void)without.target_text(0); }), HasSubstr("keep_text"));
}

TEST_F(ExamplesTest, Read_OfDifferentLengths_NamesTheLineAndBothCounts) {
  const std::string longer = write_pair("a\nb\nc\nd\n", "e\nf\n");
  EXPECT_EQ(refusal({.paths = {longer}}), longer + ".target:3: the file ends before this line: it has 2 lines, " +
                                              longer + ".source has 4; they must be equal");

  const std::string shorter = write_pair("a\n", "e\nf\n");
  EXPECT_EQ(refusal({.paths = {shorter}}), shorter + ".source:2: the file ends before this line: it has 1 lines, " +
                                               shorter + ".target has 2; they must be equal");
  EXPECT_THAT(refusal({.paths = {shorter}, .max_samples = 1}), HasSubstr("must be equal"));
}

TEST_F(ExamplesTest, Read_OfBlankLine_NamesIt) {
  const std::string source = write_pair("a\n\nc\n", "d\ne\nf\n");
  EXPECT_EQ(refusal({.paths = {source}}), source + ".source:2: empty line where a source was expected");

  const std::string target = write_pair("a\nb\nc\n", "d\ne\n \t\u00A0\r\n");
  EXPECT_EQ(refusal({.paths = {target}}), target + ".target:3: empty line where a target was expected");
}

TEST_F(ExamplesTest, Read_OfBadUtf8_NamesTheLine) {
  const std::string base = write_pair("a\nb\n", "c\n\xFF\n");

  EXPECT_THAT(refusal({.paths = {base}}), HasSubstr(base + ".target:2: not valid UTF-8"));
}

TEST_F(ExamplesTest, Read_OfMissingFile_NamesIt) {
  folder_.write("half.source", "a\n");

  const std::string reason = ": cannot open: No such file or directory";

  EXPECT_EQ(refusal({.paths = {folder_.file("no")}}), folder_.file("no.source") + reason);
  EXPECT_EQ(refusal({.paths = {folder_.file("half")}}), folder_.file("half.target") + reason);
  EXPECT_EQ(refusal({.paths = {folder_.file("no.jsonl")}}), folder_.file("no.jsonl") + reason);
}

TEST_F(ExamplesTest, Read_OfEmptyFiles_IsRefused) {
  EXPECT_THAT(refusal({.paths = {write_pair("", "")}}), EndsWith("no examples, the data is empty"));
  EXPECT_THAT(refusal({.paths = {folder_.write("e.jsonl", "")}}), EndsWith("no examples, the data is empty"));
}

TEST_F(ExamplesTest, Read_OfMaximalLengthZero_IsAConfigurationError) {
  const std::string base = write_pair("a\n", "b\n");

  EXPECT_THROW((void)read({.paths = {base}, .max_source_length = 0}), ConfigError);
  EXPECT_THROW((void)read({.paths = {base}, .max_target_length = 0}), ConfigError);
}

TEST_F(ExamplesTest, Read_OfBadJsonl_NamesLineAndReason) {
  const std::string good = "{\"source\":\"a\",\"target\":\"b\"}\n";
  const auto refusal_of = [&](const std::string& second, const std::string& target_key = "target") {
    const std::string path = folder_.write("bad.jsonl", good + second + "\n");
    const std::string message = refusal({.paths = {path}, .source_key = "source", .target_key = target_key});
    EXPECT_THAT(message, HasSubstr(path + ":2: "));
    return message;
  };

  EXPECT_THAT(refusal_of("{\"source\":"), HasSubstr("bad JSON"));
  EXPECT_THAT(refusal_of(good.substr(0, good.size() - 1) + "x"), HasSubstr("bad JSON"));
  EXPECT_THAT(refusal_of(""), HasSubstr("empty line"));
  EXPECT_THAT(refusal_of("[1]"), AllOf(HasSubstr("an object"), HasSubstr("found array")));
  EXPECT_THAT(refusal_of("{\"source\":\"a\"}"), HasSubstr("there is no key \"target\""));
  EXPECT_THAT(refusal_of("{\"source\":\"a\",\"target\":3}"),
              HasSubstr("\"target\": a string was expected, found number"));
  EXPECT_THAT(refusal_of("{\"source\":\" \",\"target\":\"b\"}"), HasSubstr("\"source\" is empty"));
}

TEST_F(ExamplesTest, Read_OfNestedKeyThatIsNotThere_NamesThePart) {
  const std::string path = folder_.write("nested.jsonl", "{\"t\":{\"en\":\"a\"}}\n");

  EXPECT_EQ(refusal({.paths = {path}, .source_key = "t.en", .target_key = "t.ro"}),
            path + ":1: looking for \"t.ro\": there is no key \"ro\"");
  EXPECT_EQ(refusal({.paths = {path}, .source_key = "t.en", .target_key = "t.en.x"}),
            path + ":1: looking for \"t.en.x\": an object with \"x\" was expected, found string");
}

}  // namespace
}  // namespace spillway::data
