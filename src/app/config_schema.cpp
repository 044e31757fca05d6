// SPDX-License-Identifier: Apache-2.0
#include "app/config_schema.hpp"

#include "app/schema_sections.hpp"

namespace spillway::app {

const std::vector<ConfigKey>& config_keys() {
  static const std::vector<ConfigKey> keys = [] {
    std::vector<ConfigKey> all = training_keys();
    for (ConfigKey& key : storage_keys()) all.push_back(std::move(key));
    for (ConfigKey& key : evaluation_keys()) all.push_back(std::move(key));
    return all;
  }();
  return keys;
}

}  // namespace spillway::app
