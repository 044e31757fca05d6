// SPDX-License-Identifier: Apache-2.0
#include "train/progress.hpp"

#include <cstdio>

#include <fmt/format.h>

namespace spillway::train {

std::string duration_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds + 0.5);
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

Progress::Progress(std::int64_t done, std::int64_t total, bool visible)
    : first_(done), total_(total), visible_(visible) {}

Progress::~Progress() { hide(); }

void Progress::show(std::int64_t done, const std::string& note) {
  using namespace std::chrono_literals;
  const auto now = std::chrono::steady_clock::now();
  if (!visible_ || (now - last_ < 100ms && done < total_)) return;
  last_ = now;
  drawn_ = true;
  constexpr std::int64_t kWidth = 30;
  const std::int64_t filled = total_ > 0 ? kWidth * done / total_ : kWidth;
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const std::int64_t run = done - first_;
  const double left = run > 0 ? elapsed / static_cast<double>(run) * static_cast<double>(total_ - done) : 0.0;
  std::string bar(static_cast<std::size_t>(filled), '#');
  bar.resize(static_cast<std::size_t>(kWidth), '.');
  fmt::print(stderr, "\r\033[K[{}] {}/{} {} < {}  {}", bar, done, total_, duration_text(elapsed), duration_text(left),
             note);
  std::fflush(stderr);
}

void Progress::hide() {
  if (!drawn_) return;
  fmt::print(stderr, "\r\033[K");
  std::fflush(stderr);
  drawn_ = false;
}

}  // namespace spillway::train
