// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "support/scratch_directory.hpp"

namespace spillway::data {

/// For a test's own text files.
using TextFolder = test::ScratchDirectory;

/// The message of the error of kind E that `action` throws; says so if it throws none.
template <typename E, typename Action>
std::string message_of(Action action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace spillway::data
