// SPDX-License-Identifier: Apache-2.0
// docs/configuration.md against the schema: a key that the page does not name, or names wrongly, is a defect of either.
#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>

#include "app/config_lookup.hpp"
#include "app/config_schema.hpp"

namespace spillway::app {
namespace {

/// Text that Markdown shows as it is.
std::string in_markdown(std::string text) {
  for (std::size_t at = text.find('<'); at != std::string::npos; at = text.find('<', at)) text.replace(at, 1, "&lt;");
  return text;
}

/// The line that the page must have for a key: all of it comes from the schema.
std::string row_of(const ConfigKey& key) {
  const auto value = key.binding.print(train::RunOptions());
  const std::string normally = value ? fmt::format("`{}`", *value) : fmt::format("the model's, or `{}`", key.fallback);
  return in_markdown(
      fmt::format("| `{}.{}` | {} | {} | {} |", key.section, key.key, normally, key.binding.expected, key.doc));
}

std::vector<std::string> rows_of_schema(bool available) {
  std::vector<std::string> rows;
  for (const ConfigKey& key : config_keys())
    if (key.available == available) rows.push_back(row_of(key));
  return rows;
}

/// The rows of the tables between a heading and the next heading of the same level.
std::vector<std::string> rows_of_page(const std::string& heading) {
  std::ifstream page(CONFIGURATION_PAGE);
  std::vector<std::string> rows;
  bool inside = false;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("## ")) inside = line == "## " + heading;
    if (inside && line.starts_with("| `")) rows.push_back(line);
  }
  return rows;
}

/// What `rows` has and `others` lacks, line by line.
std::string only_in(const std::vector<std::string>& rows, const std::vector<std::string>& others) {
  std::vector<std::string> only;
  std::ranges::copy_if(rows, std::back_inserter(only),
                       [&](const std::string& row) { return std::ranges::find(others, row) == others.end(); });
  return fmt::format("{}", fmt::join(only, "\n"));
}

TEST(ConfigurationPage, NamesEveryKeyOfTheSchemaAndNoOther) {
  const std::vector<std::string> schema = rows_of_schema(true);

  const std::vector<std::string> page = rows_of_page("Keys");

  EXPECT_EQ(only_in(schema, page), "") << "docs/configuration.md, Keys: these rows are missing";
  EXPECT_EQ(only_in(page, schema), "") << "docs/configuration.md, Keys: the schema has no such keys";
  EXPECT_EQ(page.size(), schema.size());
}

TEST(ConfigurationPage, NamesEveryKeyThatHasNoEffectYet) {
  const std::vector<std::string> schema = rows_of_schema(false);

  const std::vector<std::string> page = rows_of_page("Keys that have no effect yet");

  EXPECT_EQ(only_in(schema, page), "") << "docs/configuration.md, Keys that have no effect yet: these rows are missing";
  EXPECT_EQ(only_in(page, schema), "")
      << "docs/configuration.md, Keys that have no effect yet: the schema says otherwise";
  EXPECT_EQ(page.size(), schema.size());
}

TEST(ConfigurationPage, HasATableForEverySection) {
  std::ifstream page(CONFIGURATION_PAGE);
  std::vector<std::string> headings;
  for (std::string line; std::getline(page, line);)
    if (line.starts_with("### [")) headings.push_back(line);

  std::vector<std::string> expected;
  for (const std::string& section : section_names())
    if (std::ranges::any_of(config_keys(),
                            [&](const ConfigKey& key) { return key.section == section && key.available; }))
      expected.push_back("### [" + section + "]");

  EXPECT_EQ(headings, expected);
}

}  // namespace
}  // namespace spillway::app
