// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace spillway::train {

/// How far a run is: a bar that redraws itself on a terminal, and nothing elsewhere, where the log's lines do that work. Only rank 0
/// shows one.
class Progress {
 public:
  Progress(std::int64_t done, std::int64_t total, bool visible);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Redraws at most ten times a second. \param note  shown behind the bar
  void show(std::int64_t done, const std::string& note);
  /// Clears the line so that something else can be printed.
  void hide();

 private:
  std::int64_t first_, total_;
  bool visible_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_{};
};

/// "1:02:03" or "2:03".
[[nodiscard]] std::string duration_text(double seconds);

}  // namespace spillway::train
