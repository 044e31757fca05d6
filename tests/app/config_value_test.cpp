// SPDX-License-Identifier: Apache-2.0
#include "app/config_value.hpp"

#include <cstdlib>
#include <limits>

#include <gtest/gtest.h>

#include "app/toml_reader.hpp"

namespace spillway::app {
namespace {

TEST(TomlNumber, ReadsBackEqualAndStaysANumberWithAFraction) {
  for (const double value : {5e-5, 1e-8, 0.1, 1.0 / 3.0, 3.0, -1.0, 1e22, std::numeric_limits<double>::max(),
                             std::numeric_limits<double>::denorm_min()}) {
    const ConfigValue read = read_toml_value(toml_number(value));

    ASSERT_TRUE(std::holds_alternative<double>(read.content)) << toml_number(value);
    EXPECT_EQ(std::get<double>(read.content), value);
  }
}

TEST(TomlString, ReadsBackEqual) {
  const std::string all = "a \"b\" \\ \t \n \r \x01 \x7f ș # 'c'";

  const ConfigValue read = read_toml_value(toml_string(all));

  ASSERT_TRUE(std::holds_alternative<std::string>(read.content));
  EXPECT_EQ(std::get<std::string>(read.content), all);
}

TEST(Describe, NamesTypeAndValue) {
  EXPECT_EQ(describe({std::string("abc")}), "the string \"abc\"");
  EXPECT_EQ(describe({std::int64_t{3}}), "the integer 3");
  EXPECT_EQ(describe({0.5}), "the number 0.5");
  EXPECT_EQ(describe({true}), "true");
  EXPECT_EQ(describe({ConfigValue::List{{0.9}, {std::string("x")}}}), "the list [0.9, \"x\"]");
  EXPECT_EQ(describe({ConfigValue::Other{"a table"}}), "a table");
}

}  // namespace
}  // namespace spillway::app
