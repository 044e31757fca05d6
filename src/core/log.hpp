// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace spillway {

/// Where the program's words go: standard error, one line a call, safe from any thread.
/// Rank 0 speaks; the others only in errors, with their rank in front.
namespace log {

/// Called once by main. \param colour  off with NO_COLOR or when standard error is no terminal
/// \param host  this rank's machine if the ranks run on several
void start(int rank, bool colour, std::string_view host = {});
void info(std::string_view line);
void warning(std::string_view line);
/// Printed by every rank, `[rank r]` or `[rank r on HOST]` in front on all but the first.
void error(std::string_view line);
/// Silences `info` (tests).
void quiet();

}  // namespace log
}  // namespace spillway
