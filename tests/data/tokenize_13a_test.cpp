// SPDX-License-Identifier: Apache-2.0
#include "data/tokenize_13a.hpp"

#include <gtest/gtest.h>

namespace spillway::data {
namespace {

// The expected tokens come from sacreBLEU 2.6.0's Tokenizer13a.
TEST(Tokenize13a, CutsOffPunctuation) {
  EXPECT_EQ(tokenize_13a("A kite (red) flew over 3/4 of the hill; \"why?\" he asked."),
            "A kite ( red ) flew over 3 / 4 of the hill ; \" why ? \" he asked .");
  EXPECT_EQ(tokenize_13a("don't [x] {y} ~z `q` ^2 _u 5% $6 #7 @me *8 a+b=c"),
            "don't [ x ] { y } ~ z ` q ` ^ 2 _ u 5 % $ 6 # 7 @ me * 8 a + b = c");
}

TEST(Tokenize13a, KeepsStopsBetweenDigits) {
  EXPECT_EQ(tokenize_13a("It cost 1,250.75 lei, not 1,250."), "It cost 1,250.75 lei , not 1,250 .");
  EXPECT_EQ(tokenize_13a("a.b .5 6. 7,x x,7"), "a . b . 5 6 . 7 , x x , 7");
}

TEST(Tokenize13a, CutsADashOnlyAfterADigit) {
  EXPECT_EQ(tokenize_13a("pages 12-14, well-known, -5"), "pages 12 - 14 , well-known , -5");
}

TEST(Tokenize13a, RestoresEntitiesInOrder) {
  EXPECT_EQ(tokenize_13a("Fish &amp; chips &lt;b&gt; &quot;now&quot;"), "Fish & chips < b > \" now \"");
  EXPECT_EQ(tokenize_13a("&amp;lt;"), "<");
}

TEST(Tokenize13a, JoinsBrokenLines) { EXPECT_EQ(tokenize_13a("<skipped>line-\nbreak\nnext"), "linebreak next"); }

TEST(Tokenize13a, LeavesOtherPunctuationOfUnicodeAlone) {
  EXPECT_EQ(tokenize_13a("„Vântul” bate… la mare.mâine,poimâine"), "„Vântul” bate… la mare . mâine , poimâine");
  EXPECT_EQ(tokenize_13a("é.ș,ț"), "é . ș , ț");
}

TEST(Tokenize13a, SplitsAtUnicodeWhiteSpace) {
  EXPECT_EQ(tokenize_13a("  many\t\tspaces\u00A0here "), "many spaces here");
  EXPECT_EQ(tokenize_13a(""), "");
}

}  // namespace
}  // namespace spillway::data
