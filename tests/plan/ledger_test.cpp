// SPDX-License-Identifier: Apache-2.0
#include "plan/ledger.hpp"

#include <gmock/gmock.h>

namespace spillway::plan {
namespace {

Ledger some_ledger() {
  Ledger ledger;
  ledger.add({.name = "weight", .tier = Tier::device, .bytes = 1000});
  ledger.add({.name = "activations", .tier = Tier::device, .bytes = 500, .evaluation = false, .save = false});
  ledger.add({.name = "caches", .tier = Tier::device, .bytes = 700, .step = false, .save = false});
  ledger.add({.name = "staging", .tier = Tier::host, .bytes = 4096, .step = false, .evaluation = false});
  return ledger;
}

TEST(Ledger, SumsEachPhaseOfATier) {
  const Ledger ledger = some_ledger();

  EXPECT_EQ(ledger.total(Tier::device, Phase::step), 1500U);
  EXPECT_EQ(ledger.total(Tier::device, Phase::evaluation), 1700U);
  EXPECT_EQ(ledger.total(Tier::device, Phase::save), 1000U);
  EXPECT_EQ(ledger.total(Tier::host, Phase::step), 0U);
  EXPECT_EQ(ledger.total(Tier::host, Phase::save), 4096U);
}

TEST(Ledger, ThePeakIsTheLargestPhaseAndNotTheirSum) {
  const Ledger ledger = some_ledger();

  EXPECT_EQ(ledger.peak(Tier::device), 1700U);
  EXPECT_EQ(ledger.peak(Tier::host), 4096U);
  EXPECT_EQ(ledger.peak(Tier::nvme), 0U);
}

TEST(Ledger, FindsAnEntryByItsName) {
  const Ledger ledger = some_ledger();

  EXPECT_EQ(ledger.bytes("caches"), 700U);
  EXPECT_EQ(ledger.bytes("grad"), 0U);
}

TEST(Ledger, ANameOnSeveralTiers_HasALineAndBytesOnEach) {
  Ledger ledger;
  for (const Tier tier : {Tier::device, Tier::host, Tier::nvme})
    ledger.add({.name = "exp_avg", .tier = tier, .bytes = 100 + static_cast<std::size_t>(tier)});

  EXPECT_EQ(ledger.bytes("exp_avg"), 303U);
  EXPECT_EQ(ledger.bytes("exp_avg", Tier::device), 100U);
  EXPECT_EQ(ledger.bytes("exp_avg", Tier::host), 101U);
  EXPECT_EQ(ledger.bytes("exp_avg", Tier::nvme), 102U);
  EXPECT_THAT(ledger.text(),
              ::testing::ContainsRegex("device   exp_avg .*\n.*\nhost     exp_avg .*\n.*\nnvme     exp_avg"));
}

TEST(Ledger, LeavesOutWhatTakesNoMemory) {
  Ledger ledger;

  ledger.add({.name = "ring", .bytes = 0});

  EXPECT_TRUE(ledger.entries().empty());
}

TEST(Ledger, TextHasALineForEachEntryAndATotalForEachTierThatIsUsed) {
  EXPECT_EQ(some_ledger().text(),
            "tier     what (one rank)                           step  evaluation        save\n"
            "device   weight                                  1000 B      1000 B      1000 B\n"
            "device   activations                              500 B           -           -\n"
            "device   caches                                       -       700 B           -\n"
            "device   total                                 1.46 KiB    1.66 KiB      1000 B\n"
            "host     staging                                      -           -    4.00 KiB\n"
            "host     total                                      0 B         0 B    4.00 KiB\n");
}

TEST(BytesText, HasABinaryUnit) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1024), "1.00 KiB");
  EXPECT_EQ(bytes_text(std::size_t{3} << 19), "1.50 MiB");
  EXPECT_EQ(bytes_text(std::size_t{5} << 30), "5.00 GiB");
  EXPECT_EQ(bytes_text(std::size_t{2048} << 40), "2048.00 TiB");
}

}  // namespace
}  // namespace spillway::plan
