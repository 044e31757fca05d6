// SPDX-License-Identifier: Apache-2.0
#include "app/config_lookup.hpp"

#include <gtest/gtest.h>

#include "core/edit_distance.hpp"

namespace spillway::app {
namespace {

TEST(EditDistance, CountsInsertionsDeletionsReplacementsAndSwaps) {
  EXPECT_EQ(edit_distance("seed", "seed"), 0U);
  EXPECT_EQ(edit_distance("sed", "seed"), 1U);
  EXPECT_EQ(edit_distance("seeds", "seed"), 1U);
  EXPECT_EQ(edit_distance("seet", "seed"), 1U);
  EXPECT_EQ(edit_distance("sede", "seed"), 1U);
  EXPECT_EQ(edit_distance("", "seed"), 4U);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
}

TEST(UnknownKey, NamesTheNearestOfItsSection) {
  EXPECT_EQ(unknown_key_message("train", "sed"), "unknown key train.sed; the nearest is train.seed");
  EXPECT_EQ(unknown_key_message("optimizer", "learning_rte"),
            "unknown key optimizer.learning_rte; the nearest is optimizer.learning_rate");
}

TEST(UnknownKey, NamesTheSameKeyOfAnotherSection) {
  EXPECT_EQ(unknown_key_message("train", "learning_rate"),
            "unknown key train.learning_rate; the nearest is optimizer.learning_rate");
}

TEST(UnknownSection, NamesTheNearest) {
  EXPECT_EQ(unknown_section_message("optimiser"), "unknown section [optimiser]; the nearest is [optimizer]");
}

TEST(KeyOutsideSections, SaysWhereItBelongs) {
  EXPECT_EQ(not_a_section_message("seed"), "seed is outside all sections; the nearest key is train.seed");
  EXPECT_EQ(not_a_section_message("data"), "data is a section: expected [data] and its keys below");
}

}  // namespace
}  // namespace spillway::app
