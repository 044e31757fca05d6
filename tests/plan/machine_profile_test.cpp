// SPDX-License-Identifier: Apache-2.0
#include "plan/machine_profile.hpp"

#include <gmock/gmock.h>

#include "core/error.hpp"

namespace spillway::plan {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

std::string refusal(const std::string& text) {
  try {
    (void)parse_profile(text, "machine.json");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "it was read";
}

TEST(MachineProfile, EveryNamedProfile_IsReadAsItWasWritten) {
  for (const MachineProfile& profile : named_profiles()) {
    const std::string text = profile_json(profile);

    EXPECT_EQ(profile_json(parse_profile(text, profile.name)), text) << profile.name;
  }
}

TEST(MachineProfile, EveryNamedProfile_SaysWhereItsNumbersComeFrom) {
  EXPECT_EQ(named_profiles().size(), 6U);
  for (const MachineProfile& profile : named_profiles()) {
    for (const std::string& source :
         {profile.gpu->source, profile.pcie->source, profile.host.source, profile.nvme->source, profile.links.source})
      EXPECT_THAT(source, ::testing::AnyOf(HasSubstr("data sheet"), HasSubstr("white paper"), HasSubstr("measured"),
                                           HasSubstr("assumed"), HasSubstr("page")))
          << profile.name;
    EXPECT_GT(profile.gpu->memory_bytes, profile.gpu->driver_bytes + profile.gpu->context_bytes) << profile.name;
    EXPECT_LE(profile.pcie->both_rate, profile.pcie->up_rate + profile.pcie->down_rate) << profile.name;
  }
}

TEST(MachineProfile, WithoutGpuAndDrives_IsReadAsItWasWritten) {
  MachineProfile profile = named_profile("a10g-24gb");
  profile.gpu.reset();
  profile.pcie.reset();
  profile.nvme.reset();

  const MachineProfile read = parse_profile(profile_json(profile), "machine.json");

  EXPECT_FALSE(read.gpu);
  EXPECT_FALSE(read.pcie);
  EXPECT_FALSE(read.nvme);
  EXPECT_EQ(profile_json(read), profile_json(profile));
}

TEST(MachineProfile, WhatIsWrongInAFile_IsNamed) {
  const std::string text = profile_json(named_profile("h200-141gb"));

  EXPECT_THAT(refusal(replaced(text, "\"cores\"", "\"core\"")),
              AllOf(HasSubstr("machine.json"), HasSubstr("host.cores"), HasSubstr("missing")));
  EXPECT_THAT(refusal(replaced(text, "\"cores\": 16", "\"cores\": 16, \"sockets\": 2")),
              AllOf(HasSubstr("host.sockets"), HasSubstr("no such key")));
  EXPECT_THAT(refusal(replaced(text, "\"cores\": 16", "\"cores\": -16")),
              AllOf(HasSubstr("host.cores"), HasSubstr("-16")));
  EXPECT_THAT(refusal(replaced(text, "\"cores\": 16", "\"cores\": \"many\"")), HasSubstr("found \"many\""));
  EXPECT_THAT(refusal(replaced(text, "\"both_rate\": 100000000000.0", "\"both_rate\": 0")),
              AllOf(HasSubstr("pcie.both_rate"), HasSubstr("above 0")));
  EXPECT_THAT(refusal(replaced(text, "\"version\": 1", "\"version\": 2")), HasSubstr("version 1 is expected, 2"));
  EXPECT_THAT(refusal(replaced(text, "\"driver_bytes\": ", "\"driver_bytes\": 999")), HasSubstr("leave nothing"));
  EXPECT_THAT(refusal(text.substr(0, text.size() / 2)), HasSubstr("machine.json"));
  EXPECT_THAT(refusal(std::string(100'000, '[')), HasSubstr("machine.json"));
  EXPECT_THAT(refusal("[]"), HasSubstr("expected an object"));
}

TEST(MachineProfile, AGpuWithoutPcie_IsRefused) {
  MachineProfile profile = named_profile("rtx3090-24gb");
  profile.pcie.reset();

  EXPECT_THAT(refusal(profile_json(profile)), HasSubstr("gpu and pcie go together"));
}

TEST(NamedProfile, AnUnknownName_IsAnsweredWithThoseThatThereAre) {
  try {
    (void)named_profile("rtx3090");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("rtx3090"), HasSubstr("rtx3090-24gb"), HasSubstr("titan-rtx-24gb")));
  }
}

TEST(ProfileOfGpu, GoesByTheNameThatTheDriverHas) {
  ASSERT_NE(profile_of_gpu("NVIDIA A100-SXM4-40GB"), nullptr);
  EXPECT_EQ(profile_of_gpu("NVIDIA A100-SXM4-40GB")->name, "a100-40gb");
  EXPECT_EQ(profile_of_gpu("NVIDIA A100-SXM4-80GB"), nullptr);
}

}  // namespace
}  // namespace spillway::plan
