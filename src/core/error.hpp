// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <source_location>
#include <stdexcept>
#include <string>

namespace spillway {

/// The exit codes of the program: docs/configuration.md lists what each one means to a script.
enum class ExitCode : int { done = 0, internal = 1, config = 2, plan = 3, data = 4, failure = 5, stopped = 75 };

/// Base of everything that Spillway throws on purpose. The message names the object (file, line, tensor,
/// rank) and what was expected and found; `where()` is the place in the source that noticed.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, ExitCode code = ExitCode::internal,
                 std::source_location where = std::source_location::current())
      : std::runtime_error(message), code_(code), where_(where) {}

  [[nodiscard]] ExitCode exit_code() const noexcept { return code_; }
  [[nodiscard]] const std::source_location& where() const noexcept { return where_; }

 private:
  ExitCode code_;
  std::source_location where_;
};

/// Bad usage or configuration (exit 2).
class ConfigError : public Error {
 public:
  explicit ConfigError(const std::string& message, std::source_location where = std::source_location::current())
      : Error(message, ExitCode::config, where) {}
};

/// The plan does not fit its budgets (exit 3). The message holds the ledger.
class PlanError : public Error {
 public:
  explicit PlanError(const std::string& message, std::source_location where = std::source_location::current())
      : Error(message, ExitCode::plan, where) {}
};

/// Bad data, model or checkpoint (exit 4).
class DataError : public Error {
 public:
  explicit DataError(const std::string& message, std::source_location where = std::source_location::current())
      : Error(message, ExitCode::data, where) {}
};

/// A file or disk failed (exit 5): a full disk, an unreadable block, a checksum that differs.
class IoError : public Error {
 public:
  /// \param error_number  errno's value, 0 if no system call failed; its text is appended
  explicit IoError(const std::string& message, int error_number = 0,
                   std::source_location where = std::source_location::current());
  [[nodiscard]] int error_number() const noexcept { return error_number_; }

 private:
  int error_number_;
};

/// A rank or the network failed (exit 5).
class CommunicationError : public Error {
 public:
  explicit CommunicationError(const std::string& message, std::source_location where = std::source_location::current())
      : Error(message, ExitCode::failure, where) {}
};

/// A GPU, its driver or its memory failed (exit 5).
class CudaError : public Error {
 public:
  explicit CudaError(const std::string& message, std::source_location where = std::source_location::current())
      : Error(message, ExitCode::failure, where) {}
};

/// A feature that this build or version lacks was asked for (exit 2).
class NotCompiled : public Error {
 public:
  explicit NotCompiled(const std::string& message, std::source_location where = std::source_location::current())
      : Error(message, ExitCode::config, where) {}
};

}  // namespace spillway
