// SPDX-License-Identifier: Apache-2.0
#include "model/t5_presets.hpp"

#include <gmock/gmock.h>

#include "core/error.hpp"
#include "core/shard_map.hpp"
#include "model/t5_layout.hpp"

namespace spillway::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(T5Preset, HasAsManyParametersAsTheReleasedModels) {
  const std::vector<std::pair<std::string, std::int64_t>> released = {
      {"t5-small", 60'506'624},     {"t5-base", 222'903'552},    {"t5-large", 737'668'096},
      {"t5-3b", 2'851'598'336},     {"t5-11b", 11'307'321'344},  {"v1_1-small", 76'961'152},
      {"v1_1-base", 247'577'856},   {"v1_1-large", 783'150'080}, {"v1_1-xl", 2'849'757'184},
      {"v1_1-xxl", 11'135'332'352}, {"mt5-small", 300'176'768},  {"mt5-base", 582'401'280},
      {"mt5-large", 1'229'581'312}, {"mt5-xl", 3'742'619'648},   {"mt5-xxl", 12'921'057'280},
      {"byt5-small", 299'637'760}};
  EXPECT_EQ(preset_names().size(), released.size());
  for (const auto& [name, parameters] : released) {
    const T5Layout layout(t5_preset(name));

    EXPECT_EQ(ShardMap(layout.tensors(), 1).parameters(), parameters) << name;
    EXPECT_THAT(preset_names(), ::testing::Contains(name));
  }
}

TEST(T5Preset, AMisspeltName_IsRefusedWithTheNearest) {
  try {
    (void)t5_preset("t5_smal");
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("\"t5_smal\""), HasSubstr("\"t5-small\"")));
  }
}

TEST(T5Preset, AReleasedModelThatIsNone_IsSaidToBeReadFromADirectory) {
  for (const char* name : {"byt5-base", "byt5-large", "byt5-xl", "byt5-xxl"})
    EXPECT_THAT([&] { (void)t5_preset(name); },
                ::testing::ThrowsMessage<ConfigError>(AllOf(HasSubstr(name), HasSubstr("read from a directory"))));
}

TEST(T5Preset, ExportedAndReadAgain_IsTheSameModel) {
  for (const std::string& name : preset_names()) {
    const T5Config config = t5_preset(name);

    const T5Config again = parse_t5_config(export_config_json(config, DType::f32), name);

    EXPECT_EQ(again.untied_head, config.untied_head) << name;
    EXPECT_EQ(again.scale_logits, config.scale_logits) << name;
    EXPECT_EQ(again.gated, config.gated) << name;
    EXPECT_EQ(T5Layout(again).tensors().size(), T5Layout(config).tensors().size()) << name;
  }
}

}  // namespace
}  // namespace spillway::model
