// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "app/workplace.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class ProgramDoctor : public testing::Test {
 protected:
  [[nodiscard]] ProgramResult run(const std::vector<std::string>& arguments) const {
    ProgramCall call = place_.call(1, arguments);
    call.environment["XDG_CONFIG_HOME"] = place_.path("config");
    call.environment["CUDA_VISIBLE_DEVICES"] = "";  // the GPU's numbers have a test of their own
    return run_program(call);
  }
  Workplace place_;
};

TEST_F(ProgramDoctor, MeasuresSavesAndPlanTakesIt) {
  const ProgramResult doctor = run({"doctor", "--json", "--nvme", "."});
  ASSERT_EQ(doctor.exit_code, 0) << describe(doctor);
  const json object = json::parse(doctor.out);

  EXPECT_GT(object.at("profile").at("host").at("memory_rate"), 1e8);
  EXPECT_TRUE(object.at("profile").at("gpu").is_null());
  EXPECT_EQ(object.at("saved"), place_.path("config") + "/spillway/machine.json");
  EXPECT_EQ(json::parse(place_.read("config/spillway/machine.json")), object.at("profile"));
  if (!place_.in_memory()) {
    EXPECT_GT(object.at("profile").at("nvme").at("both_rate"), 0.0);
    EXPECT_EQ(object.at("queue_depths").size(), 3U);
  }
  const ProgramResult plan = run({"plan", "run.toml"});
  EXPECT_EQ(plan.exit_code, 0) << describe(plan);
  EXPECT_THAT(plan.out, HasSubstr("a step on this machine"));
}

TEST_F(ProgramDoctor, SaysInWordsWhatIsWrong) {
  const ProgramResult result = run({"doctor", "--nvme", "missing", "--save", "mine.json"});

  EXPECT_EQ(result.exit_code, 0) << describe(result);
  EXPECT_THAT(result.out, AllOf(HasSubstr("- "), HasSubstr("missing"), HasSubstr("offload.nvme_dirs"),
                                HasSubstr("the profile is in mine.json"), HasSubstr("AdamW")));
  EXPECT_TRUE(place_.exists("mine.json"));
  EXPECT_FALSE(place_.exists("config/spillway/machine.json"));
}

}  // namespace
}  // namespace spillway::test
