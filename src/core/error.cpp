// SPDX-License-Identifier: Apache-2.0
#include "core/error.hpp"

#include <system_error>

namespace spillway {
namespace {

std::string with_reason(const std::string& message, int error_number) {
  if (error_number == 0) return message;
  return message + ": " + std::generic_category().message(error_number);
}

}  // namespace

IoError::IoError(const std::string& message, int error_number, std::source_location where)
    : Error(with_reason(message, error_number), ExitCode::failure, where), error_number_(error_number) {}

}  // namespace spillway
