// SPDX-License-Identifier: Apache-2.0
#include "app/same_call.hpp"

#include <algorithm>
#include <span>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "train/agreement.hpp"
#include "train/checkpoints.hpp"

namespace spillway::app {

void require_same_call(comm::Communicator& communicator, const std::vector<std::string>& arguments) {
  std::vector<std::string> mine = {train::program_version()};
  mine.insert(mine.end(), arguments.begin(), arguments.end());
  const std::string text = nlohmann::json(mine).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::vector<std::vector<std::string>> all;
  for (const auto& bytes : communicator.exchange(std::as_bytes(std::span(text))))
    all.push_back(nlohmann::json::parse(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()))
                      .get<std::vector<std::string>>());
  const auto other = std::ranges::find_if(all, [&](const auto& words) { return words != all[0]; });
  if (other == all.end()) return;
  const auto [here, there] = std::ranges::mismatch(all[0], *other);
  const auto shown = [](const auto& word, const auto& words) {
    return word == words.end() ? std::string("nothing more") : fmt::format("\"{}\"", *word);
  };
  throw train::AgreedFailure(fmt::format("the ranks were not started alike: rank 0 has {}, rank {} has {}",
                                         shown(here, all[0]), other - all.begin(), shown(there, *other)),
                             ExitCode::config);
}

}  // namespace spillway::app
