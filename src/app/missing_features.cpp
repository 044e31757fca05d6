// SPDX-License-Identifier: Apache-2.0
#include "app/missing_features.hpp"

#include "app/key_bindings.hpp"

namespace spillway::app {
namespace {

using Feature = std::optional<std::string>;

template <class Asked>
MissingFeature asked_if(std::string feature, Asked asked) {
  return [=](const ConfigValue& value) -> Feature { return asked(value) ? Feature(feature) : std::nullopt; };
}

}  // namespace

MissingFeature asked_when_set(std::string feature) {
  return asked_if(std::move(feature), [](const ConfigValue&) { return true; });
}

MissingFeature asked_when_above(double limit, std::string feature) {
  return asked_if(std::move(feature), [=](const ConfigValue& value) {
    const std::optional<double> content = number_in(value);
    return content && *content > limit;
  });
}

MissingFeature asked_by(std::vector<std::pair<ConfigValue, std::string>> values) {
  return [=](const ConfigValue& asked) -> Feature {
    for (const auto& [value, feature] : values) {
      if (toml_text(value) == toml_text(asked)) return feature;
    }
    return std::nullopt;
  };
}

}  // namespace spillway::app
