// SPDX-License-Identifier: Apache-2.0
#include "core/log.hpp"

#include <atomic>
#include <memory>
#include <string>

#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace spillway::log {
namespace {

std::atomic<int> current_rank{0};
std::string error_prefix;  // written before any other thread runs

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = spdlog::stderr_color_mt("spillway");
    made->set_pattern("%v");
    return made;
  }();
  return *instance;
}

}  // namespace

void start(int rank, bool colour, std::string_view host) {
  current_rank = rank;
  error_prefix.clear();
  if (rank != 0) error_prefix = fmt::format("[rank {}{}{}] ", rank, host.empty() ? "" : " on ", host);
  auto* sink = dynamic_cast<spdlog::sinks::stderr_color_sink_mt*>(logger().sinks().front().get());
  if (sink != nullptr) sink->set_color_mode(colour ? spdlog::color_mode::always : spdlog::color_mode::never);
  logger().set_pattern("%^%v%$");
}

void info(std::string_view line) {
  if (current_rank == 0) logger().info("{}", line);
}

void warning(std::string_view line) {
  if (current_rank == 0) logger().warn("warning: {}", line);
}

void error(std::string_view line) { logger().error("{}{}", error_prefix, line); }

void quiet() { logger().set_level(spdlog::level::warn); }

}  // namespace spillway::log
