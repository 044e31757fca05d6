// SPDX-License-Identifier: Apache-2.0
#include "comm/watchdog.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/host_name.hpp"

namespace spillway::comm {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds kTick = 100ms;
constexpr std::chrono::milliseconds kPatience = 2000ms;  // for answers: twenty ticks of a rank that is alive
constexpr std::size_t kMostNamed = 8;                    // ranks, in a message

std::string seconds_text(std::chrono::milliseconds time) {
  return fmt::format("{:.1f} s", std::chrono::duration<double>(time).count());
}

/// Why the collective cannot go on, as far as this rank's answer tells; nothing if it is there.
std::string absence(const Position& mine, const std::optional<Position>& theirs) {
  if (!theirs) return "gives no answer: it has died or is stopped";
  if (theirs->number < mine.number || (theirs->number == mine.number && !theirs->inside)) {
    if (theirs->inside) return fmt::format("is still in {} ({})", theirs->collective, theirs->subject);
    return fmt::format("has not come: it is at {}", theirs->subject);
  }
  if (theirs->inside && theirs->number == mine.number && theirs->collective != mine.collective)
    return fmt::format("is in another collective: {} ({})", theirs->collective, theirs->subject);
  return {};
}

}  // namespace

Watchdog::Watchdog(std::function<void(const std::string&)> end_job)
    : end_job_(std::move(end_job)), thread_([this] { run(); }) {}

Watchdog::~Watchdog() {
  if (!thread_.joinable()) return;
  {
    const std::scoped_lock lock(mutex_);
    closing_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void Watchdog::set_timeout(std::chrono::milliseconds timeout) {
  const std::scoped_lock lock(mutex_);
  timeout_ = timeout;
}

void Watchdog::set_peers(std::unique_ptr<Peers> peers) {
  const std::scoped_lock lock(peers_mutex_);
  peers_ = std::move(peers);
}

void Watchdog::begin_step(std::int64_t step) {
  const std::scoped_lock lock(mutex_);
  step_ = step;
}

void Watchdog::about(std::string_view what) {
  const std::scoped_lock lock(mutex_);
  what_ = what;
}

std::string Watchdog::subject() const {
  const std::scoped_lock lock(mutex_);
  return subject_locked();
}

std::string Watchdog::subject_locked() const { return step_ > 0 ? fmt::format("step {}, {}", step_, what_) : what_; }

Position Watchdog::position() const {
  const std::scoped_lock lock(mutex_);
  return position_locked();
}

Position Watchdog::position_locked() const {
  std::string collective = operation_;
  if (bytes_ > 0) collective += fmt::format(" of {} bytes", bytes_);
  if (ranks_ > 0) collective += fmt::format(" among {} ranks", ranks_);
  return {number_, inside_, std::move(collective), inside_ ? subject_ : subject_locked()};
}

Watchdog::Call::Call(Watchdog& watchdog, const char* operation, std::size_t bytes, int ranks, std::string subject)
    : watchdog_(watchdog) {
  const std::scoped_lock lock(watchdog_.mutex_);
  ++watchdog_.number_;
  watchdog_.inside_ = true;
  watchdog_.operation_ = operation;
  watchdog_.bytes_ = bytes;
  watchdog_.ranks_ = ranks;
  watchdog_.subject_ = std::move(subject);
}

Watchdog::Call::~Call() {
  const std::scoped_lock lock(watchdog_.mutex_);
  watchdog_.inside_ = false;
}

/// Nobody is woken at the start of a collective: it costs the thread that runs it one lock, and this one looks ten times
/// a second.
void Watchdog::run() {
  std::uint64_t seen = 0;
  std::chrono::nanoseconds waited{0};
  std::unique_lock lock(mutex_);
  for (Clock::time_point last = Clock::now(); !closing_;) {
    changed_.wait_for(lock, kTick);
    const Clock::time_point now = Clock::now();
    // A gap is time in which this process could not run.
    const auto passed = std::min<std::chrono::nanoseconds>(now - last, 2 * kTick);
    last = now;
    if (!inside_ || number_ != std::exchange(seen, number_)) waited = {};
    else waited += passed;
    const Position mine = position_locked();
    const bool stalled = waited > timeout_;
    lock.unlock();
    if (stalled) {
      const std::string message = report(mine, std::chrono::duration_cast<std::chrono::milliseconds>(waited));
      if (waits_in_vain(mine)) return end_job_(message);
      lock.lock();
      waited = {};  // it has ended after all
      first_ = true;
      continue;
    }
    {
      const std::scoped_lock peers_lock(peers_mutex_);
      if (peers_) peers_->answer(mine);
    }
    lock.lock();
  }
}

std::string Watchdog::report(const Position& mine, std::chrono::milliseconds waited) {
  const std::scoped_lock lock(peers_mutex_);
  const std::string stall =
      fmt::format("{}: {} (collective {}) has not ended for {}, longer than train.collective_timeout allows",
                  mine.subject, mine.collective, mine.number, seconds_text(waited));
  if (!peers_) return fmt::format("a rank on {}, {}", host_name(), stall);
  const std::vector<std::string>& hosts = peers_->hosts();
  const auto me = static_cast<std::size_t>(peers_->rank());
  const std::vector<std::optional<Position>> all = peers_->ask(mine, kPatience);
  std::vector<std::string> missing;
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (rank == me) continue;
    const std::string reason = absence(mine, all[rank]);
    if (!reason.empty()) missing.push_back(fmt::format("rank {} on {} {}", rank, hosts[rank], reason));
    else if (rank < me) first_ = false;
  }
  std::string who = missing.empty() ? "every rank is there, but nothing moves: the network failed" : std::string();
  if (missing.size() > kMostNamed) {
    const std::size_t more = missing.size() - kMostNamed;
    missing.resize(kMostNamed);
    missing.push_back(fmt::format("and {} more", more));
  }
  who += fmt::format("{}", fmt::join(missing, "; "));
  return fmt::format("rank {} on {}, {}. {}. The job ends.", me, hosts[me], stall, who);
}

/// Of many ranks that wait for one, the first says so and ends the job; the others do only where they outlive that.
/// \return whether this rank is to end the job, too
bool Watchdog::waits_in_vain(const Position& mine) {
  const Clock::time_point end = Clock::now() + kPatience;
  std::unique_lock lock(mutex_);
  while (!first_ && !closing_ && inside_ && number_ == mine.number && Clock::now() < end) {
    lock.unlock();
    {
      const std::scoped_lock peers_lock(peers_mutex_);
      if (peers_) peers_->answer(mine);
    }
    lock.lock();
    changed_.wait_for(lock, kTick);
  }
  return !closing_ && inside_ && number_ == mine.number;
}

}  // namespace spillway::comm
