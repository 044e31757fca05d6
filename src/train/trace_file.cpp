// SPDX-License-Identifier: Apache-2.0
#include "train/trace_file.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <span>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/text_file.hpp"
#include "train/agreement.hpp"

namespace spillway::train {
namespace {

using nlohmann::ordered_json;

template <typename Duration>
std::int64_t nanoseconds_of(Duration duration) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
}

double microseconds(std::int64_t nanoseconds) { return 1e-3 * static_cast<double>(nanoseconds); }

/// Nanoseconds from the steady clock's origin to that of the system's: what a node's steady clock must be moved by.
std::int64_t steady_to_system() {
  const std::int64_t steady = nanoseconds_of(Trace::Clock::now().time_since_epoch());
  return nanoseconds_of(std::chrono::system_clock::now().time_since_epoch()) - steady;
}

/// The first span of any rank, of which all have the same idea. Seconds and nanoseconds apart: a double cannot hold their sum.
std::int64_t first_of_all_ranks(std::int64_t mine, comm::Communicator& communicator) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  const std::array<double, 2> parts = {static_cast<double>(mine / kSecond), static_cast<double>(mine % kSecond)};
  const std::vector<double> all = comm::all_gather_doubles(communicator, parts);
  std::int64_t first = std::numeric_limits<std::int64_t>::max();
  for (std::size_t i = 0; i < all.size(); i += 2)
    first = std::min(first, static_cast<std::int64_t>(all[i]) * kSecond + static_cast<std::int64_t>(all[i + 1]));
  return first;
}

ordered_json named(const char* what, int rank, int row, const std::string& name) {
  return {{"name", what}, {"ph", "M"}, {"pid", rank}, {"tid", row}, {"args", {{"name", name}}}};
}

ordered_json event_of(const TraceSpan& span, int rank, std::int64_t begin, std::int64_t end) {
  ordered_json event = {{"name", span.name},
                        {"cat", span.op ? plan::name_of(span.op->kind) : "host"},
                        {"ph", "X"},
                        {"ts", microseconds(begin)},
                        {"dur", microseconds(end - begin)},
                        {"pid", rank},
                        {"tid", static_cast<int>(span.row)}};
  ordered_json& args = event["args"] = {{"step", span.step}};
  if (!span.op) return event;
  if (span.op->unit >= 0) args["unit"] = span.op->unit;
  if (span.op->stage < 0) return event;
  args["stage"] = span.op->stage;
  args["group"] = span.op->group;
  args["slot"] = span.op->slot;
  return event;
}

/// One rank's events, one a line, with commas between them.
std::string text_of(const Trace& trace, int rank, std::int64_t origin) {
  std::string text = named("process_name", rank, 0, fmt::format("rank {}", rank)).dump();
  for (const TraceRow row : {TraceRow::main, TraceRow::compute, TraceRow::update})
    text += ",\n" + named("thread_name", rank, static_cast<int>(row), trace.name_of(row)).dump();
  for (const TraceSpan& span : trace.spans())
    text += ",\n" + event_of(span, rank, nanoseconds_of(span.begin.time_since_epoch()) - origin,
                             nanoseconds_of(span.end.time_since_epoch()) - origin)
                        .dump();
  return text;
}

}  // namespace

void write_trace(const std::string& path, const Trace& trace, comm::Communicator& communicator) {
  const std::int64_t shift = steady_to_system();
  std::int64_t first = nanoseconds_of(Trace::Clock::now().time_since_epoch());
  for (const TraceSpan& span : trace.spans()) first = std::min(first, nanoseconds_of(span.begin.time_since_epoch()));
  const std::int64_t origin = first_of_all_ranks(first + shift, communicator) - shift;

  const std::string mine = text_of(trace, communicator.rank(), origin);
  const auto all = communicator.exchange(std::as_bytes(std::span(mine)));
  agree(communicator, [&] {
    if (communicator.rank() != 0) return;
    std::string text = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n";
    for (std::size_t rank = 0; rank < all.size(); ++rank) {
      if (rank > 0) text += ",\n";
      text.append(reinterpret_cast<const char*>(all[rank].data()), all[rank].size());
    }
    write_text(path, text + "\n]}\n");
  });
}

}  // namespace spillway::train
