// SPDX-License-Identifier: Apache-2.0
#include "core/json_depth.hpp"

#include <gtest/gtest.h>

#include "core/error.hpp"

namespace spillway {
namespace {

std::string refusal(std::string_view text, int deepest) {
  try {
    check_json_depth(text, "a.json", deepest);
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

TEST(JsonDepth, CountsWhatIsOpenAtOnce) {
  EXPECT_EQ(refusal(R"({"a": [1, [2]], "b": [[3]]})", 3), "");
  EXPECT_EQ(refusal(R"({"a": [1, [2]], "b": [[3]]})", 2), "a.json: the JSON nests deeper than 2 levels at byte 10");
  EXPECT_EQ(refusal("[]]]][[", 2), "");
}

TEST(JsonDepth, IgnoresBracketsInStrings) {
  EXPECT_EQ(refusal(R"(["[[[{{{", "\"[[[", "\\", 1])", 1), "");
  EXPECT_NE(refusal(R"(["\\", [1]])", 1), "");
}

TEST(JsonDepth, OfHostileText_IsRefusedByDefault) {
  EXPECT_THROW(check_json_depth(std::string(50000, '['), "a.json"), DataError);
  EXPECT_NO_THROW(check_json_depth(std::string(kDeepestJson, '['), "a.json"));
}

}  // namespace
}  // namespace spillway
