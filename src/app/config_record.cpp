// SPDX-License-Identifier: Apache-2.0
#include "app/config_record.hpp"

#include "app/config_schema.hpp"
#include "app/run_config.hpp"

namespace spillway::app {

train::ConfigRecord config_record(const train::RunOptions& options) {
  train::ConfigRecord record;
  record.toml = config_text(options);
  for (const ConfigKey& key : config_keys())
    if (const auto value = key.binding.print(options)) record.values[key.section + "." + key.key] = *value;
  return record;
}

train::Runtime lend(Runtime& runtime, Device* gpu) {
  return {.device = gpu != nullptr ? *gpu : runtime.device,
          .communicator = runtime.communicator,
          .nodes = runtime.environment.nodes(),
          .start = runtime.start};
}

}  // namespace spillway::app
