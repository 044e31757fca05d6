// SPDX-License-Identifier: Apache-2.0
#include "train/collective_schedule.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "support/scratch_directory.hpp"
#include "support/thread_ranks.hpp"
#include "train/agreement.hpp"
#include "train/contents.hpp"
#include "train/resume.hpp"
#include "train/same_bits_suite.hpp"
#include "train/trainee.hpp"

namespace spillway::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

using Log = std::vector<std::string>;

std::string entry(const std::string& operation, std::size_t bytes, int ranks) {
  return fmt::format("{} {} {}", operation, bytes, ranks);
}

/// Notes what is asked of it and of its groups, in order.
class RecordingCommunicator : public comm::Communicator {
 public:
  RecordingCommunicator(comm::Communicator& inner, Log& log) : inner_(inner), log_(log) {}
  RecordingCommunicator(std::unique_ptr<comm::Communicator> inner, Log& log)
      : owned_(std::move(inner)), inner_(*owned_), log_(log) {}
  [[nodiscard]] int rank() const noexcept override { return inner_.rank(); }
  [[nodiscard]] int size() const noexcept override { return inner_.size(); }
  [[nodiscard]] Event all_gather(const Event& after, ConstTensorView shard, TensorView full) override {
    log_.push_back(entry("all_gather", full.bytes(), size()));
    return inner_.all_gather(after, shard, full);
  }
  [[nodiscard]] Event reduce_scatter(const Event& after, ConstTensorView full, TensorView shard,
                                     std::span<const int> piece_of_rank) override {
    log_.push_back(entry("reduce_scatter", full.bytes(), size()));
    return inner_.reduce_scatter(after, full, shard, piece_of_rank);
  }
  void reserve(std::size_t piece_bytes) override { inner_.reserve(piece_bytes); }
  [[nodiscard]] Event broadcast(const Event& after, TensorView tensor, int root) override {
    log_.push_back(entry("broadcast", tensor.bytes(), size()));
    return inner_.broadcast(after, tensor, root);
  }
  void barrier() override {
    log_.push_back(entry("barrier", 0, size()));
    inner_.barrier();
  }
  [[nodiscard]] std::vector<std::vector<std::byte>> exchange(std::span<const std::byte> bytes) override {
    log_.push_back(entry("exchange", 0, size()));
    return inner_.exchange(bytes);
  }
  [[nodiscard]] std::unique_ptr<comm::Communicator> split(int color, int key) override {
    return std::make_unique<RecordingCommunicator>(inner_.split(color, key), log_);
  }
  [[nodiscard]] comm::Watchdog& watchdog() noexcept override { return inner_.watchdog(); }
  [[nodiscard]] std::uint64_t bytes_sent() const noexcept override { return inner_.bytes_sent(); }
  void abort(int exit_code, const std::string& reason) noexcept override { inner_.abort(exit_code, reason); }

 private:
  std::unique_ptr<comm::Communicator> owned_;
  comm::Communicator& inner_;
  Log& log_;
};

struct Layout {
  int ranks, stage, nodes;
};

std::ostream& operator<<(std::ostream& out, const Layout& layout) {
  return out << layout.ranks << " ranks on " << layout.nodes << " nodes, stage " << layout.stage;
}

class Schedule : public ::testing::TestWithParam<Layout> {
 protected:
  void SetUp() override { write_training_folder(folder_.path()); }

  /// Of the first step, on rank 0: what was planned and what was asked for.
  [[nodiscard]] std::pair<Log, Log> first_step(const train::RunOptions& options) const {
    const Layout layout = GetParam();
    std::pair<Log, Log> logs;
    run_on_thread_ranks(layout.ranks, [&](comm::Communicator& communicator) {
      Log asked;
      RecordingCommunicator recording(communicator, asked);
      Trainee trainee(options, recording, {}, {}, comm::NodeLayout::filled(layout.nodes, layout.ranks / layout.nodes));
      asked.clear();
      (void)trainee.step();
      if (communicator.rank() != 0) return;
      for (const train::ScheduledCollective& planned : train::collective_schedule(trainee.job()))
        logs.first.push_back(entry(planned.operation, planned.bytes, planned.ranks));
      logs.second = asked;
    });
    return logs;
  }

  ScratchDirectory folder_;
};

TEST_P(Schedule, IsWhatTheFirstStepDoes) {
  for (const Numerics& numerics : all_numerics()) {
    SCOPED_TRACE(numerics);
    train::RunOptions options = training_options(folder_.path());
    set_numerics(options, numerics);
    options.zero.stage = GetParam().stage;
    if (GetParam().nodes > 1) options.zero.shard_group = train::ShardGroup::node;

    auto [planned, asked] = first_step(options);

    // Copies of a gradient that is still to be added up or rounded are exchanged later than at its last reduction.
    if (GetParam().stage == 0 || GetParam().nodes > 1) {
      std::ranges::sort(planned);
      std::ranges::sort(asked);
    }
    EXPECT_EQ(planned, asked);
    EXPECT_FALSE(planned.empty());
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, Schedule,
                         ::testing::Values(Layout{2, 0, 1}, Layout{2, 1, 1}, Layout{2, 2, 1}, Layout{2, 3, 1},
                                           Layout{3, 0, 1}, Layout{3, 3, 1}, Layout{4, 3, 2}, Layout{4, 2, 2}));

TEST(ScheduleOfOneRank, IsEmpty) {
  const ScratchDirectory folder;
  write_training_folder(folder.path());
  run_on_thread_ranks(1, [&](comm::Communicator& communicator) {
    EXPECT_TRUE(train::collective_schedule(Trainee(training_options(folder.path()), communicator).job()).empty());
  });
}

struct Refusal {
  std::string message;
  ExitCode code = ExitCode::done;
};

/// What the last rank is told after `change` of its job.
Refusal refusal(int ranks, const std::function<void(train::Job&)>& change) {
  const ScratchDirectory folder;
  write_training_folder(folder.path());
  Refusal refusal;
  run_on_thread_ranks(ranks, [&](comm::Communicator& communicator) {
    const auto device = make_host_device();
    train::Runtime runtime{
        .device = *device, .communicator = communicator, .nodes = comm::NodeLayout::filled(1, ranks)};
    const auto job = train::prepare_job(training_options(folder.path()), train::Purpose::train, runtime);
    const train::ContentRecord contents = train::contents_of(*job);
    const bool last = communicator.rank() == ranks - 1;
    if (last) change(*job);
    try {
      train::compare_ranks(*job, contents, 0, communicator);
    } catch (const train::AgreedFailure& failure) {
      if (last) refusal = {failure.what(), failure.exit_code()};
    }
  });
  return refusal;
}

TEST(CompareRanks, WhenAllAreAlike_Passes) {
  EXPECT_EQ(refusal(3, [](train::Job&) {}).message, "");
}

TEST(CompareRanks, NamesTheFirstCollectiveThatDiffers) {
  const Refusal found = refusal(3, [](train::Job& job) { job.gradients.reduce = DType::bf16; });

  EXPECT_EQ(found.code, ExitCode::failure);
  EXPECT_THAT(found.message, AllOf(HasSubstr("the ranks would not train the same:"), HasSubstr("\n  collective "),
                                   HasSubstr(" of a step: rank 0 has reduce "), HasSubstr("bytes of f32 among 3 ranks"),
                                   HasSubstr(", rank 2 has reduce "), HasSubstr("bytes of bf16 among 3 ranks"),
                                   Not(HasSubstr("step program"))));
}

TEST(CompareRanks, NamesWhatElseDiffers) {
  const Refusal found = refusal(2, [](train::Job& job) { ++job.total_steps; });

  EXPECT_EQ(found.code, ExitCode::failure);
  EXPECT_THAT(found.message, AllOf(HasSubstr("last step: rank 0 has 10, rank 1 11"), Not(HasSubstr("collective"))));
}

TEST(FirstDifference, OfASchedulesThatEndsEarlier_IsItsEnd) {
  EXPECT_EQ(train::first_difference("a\nb\n", "a\n", 2),
            "\n  collective 2 of a step: rank 0 has b, rank 2 has no more");
  EXPECT_EQ(train::first_difference("a\nb\n", "a\nb\n", 1), "");
}

}  // namespace
}  // namespace spillway::test
