// SPDX-License-Identifier: Apache-2.0
#include "train/agreement.hpp"

#include <algorithm>
#include <map>
#include <new>
#include <span>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/host_name.hpp"

namespace spillway::train {
namespace {

constexpr std::size_t kMostMessages = 4;

/// How a stage went on one rank; the message is the result if it went well.
Failure outcome_of(const std::function<std::string()>& stage) {
  try {
    return {stage(), ExitCode::done};
  } catch (...) {
    return current_failure();
  }
}

/// Every rank's outcome, in rank order. \throws AgreedFailure if any is a failure
std::vector<Failure> agreed_outcomes(comm::Communicator& communicator, const Failure& mine) {
  std::string packed(1, static_cast<char>(mine.code));
  packed += host_name() + '\n' + mine.message;
  std::vector<Failure> outcomes;
  std::vector<std::string> hosts;
  for (const auto& bytes : communicator.exchange(std::as_bytes(std::span(packed)))) {
    const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const std::size_t host_end = text.find('\n', 1);
    hosts.push_back(text.substr(1, host_end - 1));
    outcomes.push_back({text.substr(host_end + 1), static_cast<ExitCode>(text.at(0))});
  }
  for (const Failure& outcome : outcomes) {
    if (outcome.code != ExitCode::done) throw AgreedFailure(failure_text(outcomes, hosts), outcome.code);
  }
  return outcomes;
}

}  // namespace

Failure current_failure() {
  constexpr auto kReport = "Please report it with the command, the configuration and this output.";
  try {
    throw;
  } catch (const Error& error) {
    if (error.exit_code() != ExitCode::internal) return {error.what(), error.exit_code()};
    return {fmt::format("internal error: {} ({}:{}). {}", error.what(), error.where().file_name(), error.where().line(),
                        kReport),
            ExitCode::internal};
  } catch (const std::bad_alloc&) {
    return {fmt::format("internal error: the system has no more memory for this process. {}", kReport),
            ExitCode::internal};
  } catch (const std::exception& error) {
    return {fmt::format("internal error: {}. {}", error.what(), kReport), ExitCode::internal};
  } catch (...) {
    return {fmt::format("internal error of an unknown kind. {}", kReport), ExitCode::internal};
  }
}

std::string failure_text(const std::vector<Failure>& outcomes, const std::vector<std::string>& hosts) {
  const bool one_host = std::ranges::all_of(hosts, [&](const std::string& host) { return host == hosts.front(); });
  std::vector<std::string> messages;
  std::map<std::string, std::vector<std::string>> ranks;
  for (std::size_t rank = 0; rank < outcomes.size(); ++rank) {
    if (outcomes[rank].code == ExitCode::done) continue;
    auto& same = ranks[outcomes[rank].message];
    if (same.empty()) messages.push_back(outcomes[rank].message);
    same.push_back(one_host ? std::to_string(rank) : fmt::format("{} on {}", rank, hosts[rank]));
  }
  // All ranks together need no name, nor does rank 0 where there is but one machine.
  if (messages.size() == 1 && (ranks[messages[0]].size() == outcomes.size() || ranks[messages[0]][0] == "0"))
    return messages[0];
  std::string text;
  for (std::size_t i = 0; i < messages.size() && i < kMostMessages; ++i) {
    const auto& same = ranks[messages[i]];
    text += fmt::format("{}[rank{} {}] {}", text.empty() ? "" : "\n", same.size() > 1 ? "s" : "", fmt::join(same, ", "),
                        messages[i]);
  }
  if (messages.size() > kMostMessages) text += fmt::format("\nand {} more", messages.size() - kMostMessages);
  return text;
}

void agree(comm::Communicator& communicator, const std::function<void()>& stage) {
  const Failure mine = outcome_of([&] {
    stage();
    return std::string();
  });
  (void)agreed_outcomes(communicator, mine);
}

std::string text_of_rank_0(comm::Communicator& communicator, const std::function<std::string()>& make) {
  const Failure mine = communicator.rank() == 0 ? outcome_of(make) : Failure{"", ExitCode::done};
  return agreed_outcomes(communicator, mine)[0].message;
}

}  // namespace spillway::train
