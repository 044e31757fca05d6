// SPDX-License-Identifier: Apache-2.0
// trace.json of whole runs on the host.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/log.hpp"
#include "support/scratch_directory.hpp"
#include "support/thread_ranks.hpp"
#include "train/trainee.hpp"
#include "train/trainer.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;

struct Event {
  std::string name, kind;
  int rank = 0, row = 0, step = 0;
  double begin = 0.0, end = 0.0;  // microseconds
};

class TraceOfARun : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    log::quiet();
    write_training_folder(folder_.path());
    options_ = training_options(folder_.path());
    options_.train.max_steps = 4;
    options_.report = {.trace = true, .trace_first = 2, .trace_last = 3};
  }
  void train() {
    run_on_thread_ranks(GetParam(), [&](comm::Communicator& communicator) {
      const auto device = make_host_device();
      train::Runtime runtime{
          .device = *device, .communicator = communicator, .nodes = comm::NodeLayout::filled(1, GetParam())};
      train::train({.options = options_, .config = {}}, runtime);
    });
  }
  [[nodiscard]] std::string path() const { return options_.train.output_dir + "/trace.json"; }
  [[nodiscard]] std::vector<Event> spans() const {
    std::ifstream file(path());
    const json trace = json::parse(file);
    std::vector<Event> events;
    for (const json& event : trace.at("traceEvents")) {
      if (event.at("ph") != "X") continue;
      const double begin = event.at("ts");
      events.push_back({.name = event.at("name"),
                        .kind = event.at("cat"),
                        .rank = event.at("pid"),
                        .row = event.at("tid"),
                        .step = event.at("args").at("step"),
                        .begin = begin,
                        .end = begin + event.at("dur").get<double>()});
    }
    return events;
  }
  ScratchDirectory folder_;
  train::RunOptions options_;
};

INSTANTIATE_TEST_SUITE_P(Ranks, TraceOfARun, ::testing::Values(1, 2));

TEST_P(TraceOfARun, HasEveryOpOfTheStepsAskedForAndOfNoOther) {
  train();

  const auto communicator = comm::make_single_communicator();
  const Trainee trainee(options_, *communicator);  // its program has the same kinds of ops
  std::set<std::string> kinds;
  for (const plan::Op& op : trainee.job().plan.program.ops) kinds.insert(plan::name_of(op.kind));
  std::map<std::pair<int, int>, std::set<std::string>> found;
  std::map<std::pair<int, int>, std::multiset<std::string>> updates;
  for (const Event& event : spans()) {
    if (event.row == 0 && event.kind != "host") found[{event.rank, event.step}].insert(event.kind);
    if (event.row == 2) updates[{event.rank, event.step}].insert(event.name);
  }

  ASSERT_EQ(found.size(), 2U * static_cast<std::size_t>(GetParam()));
  for (int rank = 0; rank < GetParam(); ++rank)
    for (const int step : {2, 3}) {
      EXPECT_EQ((found[{rank, step}]), kinds);
      EXPECT_EQ((updates[{rank, step}]),
                (std::multiset<std::string>{"update persistent", "update encoder.0", "update encoder.1",
                                            "update decoder.0", "update decoder.1", "update head"}));
    }
}

TEST_P(TraceOfARun, SpansOfARowNestOrFollowOneAnother) {
  train();

  constexpr double kRounding = 0.01;
  std::map<std::pair<int, int>, std::vector<Event>> rows;
  for (const Event& event : spans()) {
    EXPECT_GE(event.begin, 0.0) << event.name;
    EXPECT_GE(event.end, event.begin) << event.name;
    rows[{event.rank, event.row}].push_back(event);
  }
  EXPECT_EQ(rows.size(), 3U * static_cast<std::size_t>(GetParam()));
  for (auto& [row, events] : rows) {
    std::ranges::sort(
        events, [](const Event& a, const Event& b) { return a.begin != b.begin ? a.begin < b.begin : a.end > b.end; });
    std::vector<Event> open;
    for (const Event& event : events) {
      while (!open.empty() && open.back().end <= event.begin + kRounding) open.pop_back();
      if (!open.empty()) {
        EXPECT_LE(event.end, open.back().end + kRounding) << event.name << " in " << open.back().name;
      }
      open.push_back(event);
    }
  }
}

TEST_P(TraceOfARun, ThatEndsEarlier_HasTheStepsThatWereRun) {
  options_.report.trace_last = 100;
  train();

  std::set<int> steps;
  for (const Event& event : spans()) steps.insert(event.step);
  EXPECT_THAT(steps, ::testing::ElementsAre(2, 3, 4));
}

TEST_P(TraceOfARun, WithoutSuchSteps_IsNotThere) {
  options_.report.trace_first = 50;
  options_.report.trace_last = 60;
  train();

  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_P(TraceOfARun, WhoseLastStepIsBeforeTheFirst_IsRefused) {
  options_.report.trace_first = 5;

  EXPECT_THROW(train(), std::exception);
}

}  // namespace
}  // namespace spillway::test
