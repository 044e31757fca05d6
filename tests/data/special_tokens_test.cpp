// SPDX-License-Identifier: Apache-2.0
#include "data/special_tokens.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spillway::data {

bool operator==(const SpecialTokens::Part& a, const SpecialTokens::Part& b) { return a.text == b.text && a.id == b.id; }

void PrintTo(const SpecialTokens::Part& part, std::ostream* out) {
  *out << '"' << part.text << "\" " << (part.id ? *part.id : -1);
}

namespace {

using Part = SpecialTokens::Part;
using testing::ElementsAre;
using testing::IsEmpty;

class SpecialTokensTest : public testing::Test {
 protected:
  SpecialTokensTest() {
    tokens_.add("<pad>", 0);
    tokens_.add("</s>", 1);
    tokens_.add("<extra_id_12>", 99);
  }
  SpecialTokens tokens_;
};

TEST_F(SpecialTokensTest, Split_OfPlainText_GivesItWhole) {
  EXPECT_THAT(tokens_.split("a < b > c"), ElementsAre(Part{"a < b > c", {}}));
  EXPECT_THAT(tokens_.split(""), IsEmpty());
}

TEST_F(SpecialTokensTest, Split_CutsAtEverySpecialToken) {
  EXPECT_THAT(tokens_.split("</s>one <extra_id_12> two<pad><pad>"),
              ElementsAre(Part{"</s>", 1}, Part{"one ", {}}, Part{"<extra_id_12>", 99}, Part{" two", {}},
                          Part{"<pad>", 0}, Part{"<pad>", 0}));
}

TEST_F(SpecialTokensTest, Split_LeavesWhatOnlyLooksSpecial) {
  EXPECT_THAT(tokens_.split("<extra_id_1><extra_id_012><b>"), ElementsAre(Part{"<extra_id_1><extra_id_012><b>", {}}));
  EXPECT_THAT(tokens_.split("<<pad>>"), ElementsAre(Part{"<", {}}, Part{"<pad>", 0}, Part{">", {}}));
  EXPECT_THAT(tokens_.split("<pad"), ElementsAre(Part{"<pad", {}}));
}

}  // namespace
}  // namespace spillway::data
