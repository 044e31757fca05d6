// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <gtest/gtest.h>

#include "core/error.hpp"

namespace spillway::app {

/// The message of the ConfigError that `act` throws; fails the test if it throws none.
template <class Act>
std::string config_error_of(Act act) {
  try {
    act();
  } catch (const ConfigError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no ConfigError was thrown";
  return "";
}

}  // namespace spillway::app
