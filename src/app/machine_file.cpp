// SPDX-License-Identifier: Apache-2.0
#include "app/machine_file.hpp"

#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>

#include "core/error.hpp"
#include "core/log.hpp"
#include "core/text_file.hpp"
#include "train/agreement.hpp"

namespace spillway::app {
namespace {

bool is_file(const std::string& path) {
  std::error_code none;
  return !path.empty() && std::filesystem::is_regular_file(path, none);
}

}  // namespace

std::string saved_profile_path() {
  constexpr const char* kName = "/spillway/machine.json";
  if (const char* config = std::getenv("XDG_CONFIG_HOME"); config != nullptr && *config != '\0')
    return std::string(config) + kName;
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0')
    return std::string(home) + "/.config" + kName;
  return {};
}

plan::MachineProfile read_profile(const std::string& name_or_file) {
  if (is_file(name_or_file)) return plan::parse_profile(read_text(name_or_file), name_or_file);
  if (name_or_file.find('/') != std::string::npos)
    throw ConfigError(fmt::format("--profile {}: there is no such file", name_or_file));
  return plan::named_profile(name_or_file);
}

std::optional<plan::MachineProfile> saved_profile(comm::Communicator& communicator) {
  const std::string path = saved_profile_path();
  const std::string text = train::text_of_rank_0(communicator, [&] {
    if (!is_file(path)) return std::string();
    std::string read = read_text(path);
    (void)plan::parse_profile(read, path);
    return read;
  });
  if (text.empty()) return std::nullopt;
  return plan::parse_profile(text, path);
}

std::optional<plan::MachineProfile> known_profile(const Device& device, comm::Communicator& communicator) {
  std::optional<plan::MachineProfile> saved;
  try {
    saved = saved_profile(communicator);
  } catch (const train::AgreedFailure& failure) {
    log::warning(fmt::format("the saved machine profile is not used: {}", failure.what()));
  }
  if (device.is_host() || (saved && saved->gpu && saved->gpu->name == device.name())) return saved;
  if (const plan::MachineProfile* named = plan::profile_of_gpu(device.name())) return *named;
  return std::nullopt;
}

}  // namespace spillway::app
