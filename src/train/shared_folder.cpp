// SPDX-License-Identifier: Apache-2.0
#include "train/shared_folder.hpp"

#include <filesystem>
#include <fstream>
#include <system_error>
#include <thread>

#include <fmt/format.h>
#include <unistd.h>

#include "core/error.hpp"
#include "core/host_name.hpp"
#include "train/agreement.hpp"

namespace spillway::train {
namespace {

namespace fs = std::filesystem;

bool appears(const std::string& path, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  std::error_code ignored;
  while (!fs::exists(path, ignored)) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return true;
}

/// A name that nobody has looked for before: what was not there is remembered as well.
std::string new_name() {
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  return fmt::format(".seen-by-all-{}-{}-{}", host_name(), ::getpid(), now);
}

}  // namespace

void check_shared_folder(const std::string& key, const std::string& folder, comm::Communicator& communicator,
                         std::chrono::milliseconds patience) {
  if (communicator.size() == 1) return;
  const std::string name = text_of_rank_0(communicator, [&] {
    std::string made = new_name();
    if (!std::ofstream(folder + "/" + made)) throw ConfigError(fmt::format("{} = \"{}\" is not writable", key, folder));
    return made;
  });
  const std::string path = folder + "/" + name;
  const auto remove = [&] {
    std::error_code ignored;
    if (communicator.rank() == 0) fs::remove(path, ignored);
  };
  try {
    agree(communicator, [&] {
      if (communicator.rank() == 0 || appears(path, patience)) return;
      throw ConfigError(fmt::format(
          "{} = \"{}\": this is another folder than rank 0's. All ranks write a checkpoint into one folder and "
          "read from it: on several nodes it must be on a file system that all of them share",
          key, folder));
    });
  } catch (...) {
    remove();
    throw;
  }
  remove();
}

}  // namespace spillway::train
