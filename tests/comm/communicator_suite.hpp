// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

#include "comm/communicator.hpp"

namespace spillway::test {

/// A way to have communicators, for the suite that all of them pass.
struct Backend {
  std::string name;
  int ranks;
  /// Runs a body on every rank that this process has, with its communicator.
  std::function<void(const std::function<void(comm::Communicator&)>&)> run;
};

/// What GoogleTest prints.
void PrintTo(const Backend& backend, std::ostream* out);

/// What this test program can make; each defines it.
[[nodiscard]] std::vector<Backend> backends();

}  // namespace spillway::test
