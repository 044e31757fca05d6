// SPDX-License-Identifier: Apache-2.0
#include "comm/communicator_suite.hpp"
#include "support/thread_ranks.hpp"

namespace spillway::test {

std::vector<Backend> backends() {
  std::vector<Backend> all{{"single", 1, [](const auto& body) { body(*comm::make_single_communicator()); }}};
  for (const int ranks : {1, 2, 3, 4, 6})
    all.push_back(
        {"threads_" + std::to_string(ranks), ranks, [ranks](const auto& body) { run_on_thread_ranks(ranks, body); }});
  return all;
}

}  // namespace spillway::test
