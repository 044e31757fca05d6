// SPDX-License-Identifier: Apache-2.0
#include "data/utf8.hpp"

#include <gtest/gtest.h>

namespace spillway::data {
namespace {

TEST(Utf8, FindInvalid_InTextOfEveryLength_FindsNone) {
  EXPECT_EQ(find_invalid_utf8("a é „ 😀 \u07FF \u0800 \uFFFF \U00010000 \U0010FFFF"), std::nullopt);
  EXPECT_EQ(find_invalid_utf8(""), std::nullopt);
}

TEST(Utf8, FindInvalid_GivesOffsetOfFirstBadByte) {
  EXPECT_EQ(find_invalid_utf8("ab\xFF"), 2U);
  EXPECT_EQ(find_invalid_utf8("é\x80"), 2U) << "a continuation byte alone";
  EXPECT_EQ(find_invalid_utf8("a\xE2\x82"), 1U) << "cut off at the end";
  EXPECT_EQ(find_invalid_utf8("a\xC3("), 1U) << "continuation missing";
  EXPECT_EQ(find_invalid_utf8("\xC0\x80"), 0U) << "overlong, 2 bytes";
  EXPECT_EQ(find_invalid_utf8("\xE0\x9F\xBF"), 0U) << "overlong, 3 bytes";
  EXPECT_EQ(find_invalid_utf8("\xF0\x8F\xBF\xBF"), 0U) << "overlong, 4 bytes";
  EXPECT_EQ(find_invalid_utf8("\xED\xA0\x80"), 0U) << "a surrogate";
  EXPECT_EQ(find_invalid_utf8("\xF4\x90\x80\x80"), 0U) << "above U+10FFFF";
  EXPECT_EQ(find_invalid_utf8("\xF5\x80\x80\x80"), 0U);
}

TEST(Utf8, DropInvalid_KeepsWhatIsValid) {
  EXPECT_EQ(drop_invalid_utf8("a\xE2\x82"
                              "b\xFFé\xC3"),
            "abé");
  EXPECT_EQ(drop_invalid_utf8("„da”"), "„da”");
}

TEST(Utf8, IsBlank_KnowsUnicodeWhiteSpace) {
  EXPECT_TRUE(is_blank(""));
  EXPECT_TRUE(is_blank(" \t\r\n\v\f\x1C\x1D\x1E\x1F\u0085\u00A0\u1680\u2000\u200A\u2028\u2029\u202F\u205F\u3000"));
  EXPECT_FALSE(is_blank(" . "));
  EXPECT_FALSE(is_blank("\u200B")) << "the zero width space is no white space to Python";
  EXPECT_FALSE(is_blank("\u180E"));
  EXPECT_FALSE(is_blank("\u00A1"));
}

TEST(Utf8, JoinWords_PutsOneSpaceBetweenWords) {
  EXPECT_EQ(join_words(" \u2003unu\t doi\u00A0trei\u3000"), "unu doi trei");
  EXPECT_EQ(join_words(" \n "), "");
}

TEST(Utf8, StripStart_LeavesTheEnd) {
  EXPECT_EQ(strip_start("\u00A0\n a b  "), "a b  ");
  EXPECT_EQ(strip_start("ș"), "ș");
  EXPECT_EQ(strip_start(" \t"), "");
}

TEST(Utf8, StripEnd_LeavesTheBeginning) {
  EXPECT_EQ(strip_end("  a b \u00A0\u2003\n"), "  a b");
  EXPECT_EQ(strip_end("ș"), "ș");
  EXPECT_EQ(strip_end(" \t"), "");
}

}  // namespace
}  // namespace spillway::data
