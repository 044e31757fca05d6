// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "app/config_schema.hpp"

namespace spillway::app {

/// The sections in their order.
[[nodiscard]] const std::vector<std::string>& section_names();
[[nodiscard]] bool is_section(const std::string& section);
/// nullptr if there is no such key.
[[nodiscard]] const ConfigKey* find_key(const std::string& section, const std::string& key);

/// `unknown key train.sed; the nearest is train.seed`: a key of that name in another section is nearer than any other.
[[nodiscard]] std::string unknown_key_message(const std::string& section, const std::string& key);
/// `unknown section [trian]; the nearest is [train]`
[[nodiscard]] std::string unknown_section_message(const std::string& section);
/// For a key outside all sections.
[[nodiscard]] std::string not_a_section_message(const std::string& key);

}  // namespace spillway::app
