// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace spillway::comm {

/// Where a rank is in the order of its collectives.
struct Position {
  std::uint64_t number = 0;  // of the last one that it began, from 1, those of its groups too
  bool inside = false;       // it is still in it
  std::string collective;    // "all_gather of 512 bytes among 2 ranks"; the same on every rank of a group
  std::string subject;       // what it is at: "step 12, acquire encoder.3"
  friend bool operator==(const Position&, const Position&) = default;
};

/// The ranks of a job as a watchdog sees them when no collective moves. All calls come from the watchdog's thread.
class Peers {
 public:
  virtual ~Peers() = default;
  [[nodiscard]] virtual int rank() const = 0;
  /// The name of each rank's machine.
  [[nodiscard]] virtual const std::vector<std::string>& hosts() const = 0;
  /// Answers what other ranks have asked since the last call. Called about ten times a second; does not block.
  virtual void answer(const Position& mine) = 0;
  /// Where every rank is; nothing for one that did not answer within `patience`. Answers others meanwhile.
  [[nodiscard]] virtual std::vector<std::optional<Position>> ask(const Position& mine,
                                                                 std::chrono::milliseconds patience) = 0;
};

/// Ends a job that hangs: a thread of each rank sees how long the rank has been in its collective, and if that is longer
/// than the timeout finds out which ranks did not come, and ends the job with a message that says it. A collective counts
/// from when this rank's data are there, so what the ranks compute between two of them does not, but what one rank does
/// alone while the others wait does. Only time in which the watchdog itself could run counts: a job that was suspended
/// as a whole goes on.
class Watchdog {
 public:
  static constexpr std::chrono::milliseconds kDefaultTimeout{300000};

  /// Watches nothing: of a group of one rank.
  Watchdog() = default;
  /// \param end_job  is given the message, in the watchdog's thread, once
  explicit Watchdog(std::function<void(const std::string&)> end_job);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog();

  void set_timeout(std::chrono::milliseconds timeout);
  /// Without peers a message names this rank's collective alone. Waits until the old ones are no longer asked.
  void set_peers(std::unique_ptr<Peers> peers);
  /// The step that messages name from now on.
  void begin_step(std::int64_t step);
  /// What the collectives to come are about, "acquire encoder.3", until the next call.
  void about(std::string_view what);
  /// As the collectives that are asked for now will name it.
  [[nodiscard]] std::string subject() const;
  [[nodiscard]] Position position() const;

  /// A collective that is being run; one at a time.
  class Call {
   public:
    /// \param operation  lives for ever \param bytes  the same on all ranks; 0 where it need not be \param ranks  that take part; 0: all
    Call(Watchdog& watchdog, const char* operation, std::size_t bytes = 0, int ranks = 0)
        : Call(watchdog, operation, bytes, ranks, watchdog.subject()) {}
    /// \param subject  when it was asked for
    Call(Watchdog& watchdog, const char* operation, std::size_t bytes, int ranks, std::string subject);
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    Watchdog& watchdog_;
  };

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] Position position_locked() const;
  [[nodiscard]] std::string subject_locked() const;
  void run();
  [[nodiscard]] std::string report(const Position& mine, std::chrono::milliseconds waited);
  [[nodiscard]] bool waits_in_vain(const Position& mine);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::chrono::milliseconds timeout_ = kDefaultTimeout;
  bool closing_ = false;
  std::int64_t step_ = 0;
  std::string what_ = "start";
  // Of the last call:
  std::uint64_t number_ = 0;
  bool inside_ = false;
  const char* operation_ = "";
  std::size_t bytes_ = 0;
  int ranks_ = 0;
  std::string subject_;

  std::mutex peers_mutex_;
  std::unique_ptr<Peers> peers_;
  bool first_ = true;  // no rank below this one waits too: it is the one to speak
  std::function<void(const std::string&)> end_job_;
  std::thread thread_;
};

}  // namespace spillway::comm
