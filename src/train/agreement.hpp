// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "core/error.hpp"

namespace spillway::train {

/// A failure that every rank knows of and throws alike: rank 0 prints it, all ranks end with its code, and nobody is
/// aborted.
class AgreedFailure : public Error {
 public:
  AgreedFailure(const std::string& message, ExitCode code) : Error(message, code) {}
};

/// What an exception means to the user: the message to print and the exit code.
struct Failure {
  std::string message;
  ExitCode code = ExitCode::internal;
};

/// The failure being handled. To be called in a catch block; what is not an Error is a bug and says how to report it.
[[nodiscard]] Failure current_failure();

/// What to tell of a stage that failed on some ranks: each message once, with the ranks that it came from and, if not all ran on
/// one machine, theirs. \param outcomes  of every rank; done: it did not fail  \param hosts  the machine of every rank
[[nodiscard]] std::string failure_text(const std::vector<Failure>& outcomes, const std::vector<std::string>& hosts);

/// Runs `stage` on every rank and, if it failed on any, throws the same AgreedFailure on all: each message once with
/// the ranks that it came from, and the lowest such rank's code. Blocks. `stage` must be work of its rank alone: a rank
/// that failed inside a collective would leave the others waiting there.
void agree(comm::Communicator& communicator, const std::function<void()>& stage);

/// `make()` of rank 0 on every rank; the others do not call it. Blocks. \throws AgreedFailure on every rank if it threw
[[nodiscard]] std::string text_of_rank_0(comm::Communicator& communicator, const std::function<std::string()>& make);

}  // namespace spillway::train
