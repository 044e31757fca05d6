// SPDX-License-Identifier: Apache-2.0
#include "train/gradients.hpp"

#include <gtest/gtest.h>

#include "support/scratch_directory.hpp"
#include "support/thread_ranks.hpp"
#include "train/job_facts.hpp"
#include "train/trainee.hpp"

namespace spillway::test {
namespace {

/// A step of one micro-batch on one rank, unless something says otherwise.
train::RunOptions one_batch(const std::string& folder) {
  train::RunOptions options = training_options(folder);
  options.train.per_device_train_batch_size = options.train.global_batch_size;
  options.train.precision = train::Precision::bf16;
  return options;
}

/// The plan as if there were more micro-batches, each unit's gradient added up in a buffer.
void plan_with_buffers(train::Job& job) {
  job.gradients.micro_batches = 2;
  const auto device = make_host_device();
  const auto communicator = comm::make_single_communicator();
  const train::Runtime runtime{
      .device = *device, .communicator = *communicator, .nodes = comm::NodeLayout::filled(1, 1)};
  job.facts = train::facts_of(job, train::ThisMachine(runtime));
  job.plan = plan::make_plan(job.facts, {.host = std::size_t{1} << 40, .host_source = "the test"});
}

/// Of the ledger of rank 0.
std::size_t buffer_bytes(const train::RunOptions& options, int ranks, const std::function<void(train::Job&)>& look) {
  std::size_t bytes = 0;
  run_on_thread_ranks(ranks, [&](comm::Communicator& communicator) {
    Trainee trainee(options, communicator, {}, communicator.rank() == 0 ? look : nullptr);
    if (communicator.rank() == 0) bytes = trainee.job().plan.ledger.bytes(plan::entry::kGradients);
  });
  return bytes;
}

class GradientsInPlace : public ::testing::Test {
 protected:
  /// \param gated  v1.1, whose head is a unit of its own; or v1.0
  void write(bool gated) const { write_training_folder(folder_.path(), {.gated = gated}); }
  ScratchDirectory folder_;
};

TEST_F(GradientsInPlace, HaveNoBuffersButThoseOfWhatIsAddedUp) {
  for (const bool gated : {false, true}) {
    SCOPED_TRACE(gated);
    write(gated);
    std::int64_t buffered = 0;  // elements
    const auto look = [&](train::Job& job) {
      const ShardMap& map = *job.map;
      for (int unit = 0; unit < map.units(); ++unit)
        EXPECT_EQ(job.gradients.in_place(unit), unit > 0 && !(gated && unit == map.units() - 1)) << unit;
      buffered = map.unit_elements(0) + (gated ? 2 * map.unit_elements(map.units() - 1) : 0);
    };

    const std::size_t bytes = buffer_bytes(one_batch(folder_.path()), 1, look);

    EXPECT_EQ(bytes, static_cast<std::size_t>(buffered) * (sizeof(float) + sizeof(std::uint16_t)));
  }
}

TEST_F(GradientsInPlace, AreThoseOfOneMicroBatchOnOneRankOfOneDtype) {
  write(false);
  const auto none = [](train::Job& job) {
    for (int unit = 0; unit < job.map->units(); ++unit) EXPECT_FALSE(job.gradients.in_place(unit)) << unit;
  };
  train::RunOptions several = one_batch(folder_.path()), rounded_later = several, wide = several;
  several.train.per_device_train_batch_size /= 2;
  rounded_later.zero.grad_dtype = train::GradientDType::fp32;
  wide.zero.grad_dtype = wide.zero.reduce_dtype = train::GradientDType::fp32;

  (void)buffer_bytes(several, 1, none);
  (void)buffer_bytes(one_batch(folder_.path()), 2, none);
  (void)buffer_bytes(rounded_later, 1, none);
  (void)buffer_bytes(wide, 1, [](train::Job& job) { EXPECT_TRUE(job.gradients.in_place(1)); });
}

TEST_F(GradientsInPlace, GiveTheBitsThatBuffersGive) {
  using train::GradientDType;
  using train::Precision;
  for (const bool gated : {false, true})
    for (const Precision precision : {Precision::bf16, Precision::fp32})
      for (const GradientDType dtype : {GradientDType::automatic, GradientDType::fp32})
        for (const bool recompute : {false, true}) {
          SCOPED_TRACE(testing::Message()
                       << gated << static_cast<int>(precision) << static_cast<int>(dtype) << recompute);
          write(gated);
          train::RunOptions options = one_batch(folder_.path());
          options.train.precision = precision;
          options.zero.reduce_dtype = options.zero.grad_dtype = dtype;
          options.train.gradient_checkpointing =
              recompute ? train::GradientCheckpointing::on : train::GradientCheckpointing::off;
          const auto hashes_of = [&](const std::function<void(train::Job&)>& replan) {
            StateHashes hashes;
            run_on_thread_ranks(1, [&](comm::Communicator& communicator) {
              Trainee trainee(options, communicator, {}, replan);
              EXPECT_EQ(trainee.job().gradients.in_place(1), !replan);
              trainee.run(4);
              hashes = trainee.hashes();
            });
            return hashes;
          };

          EXPECT_EQ(hashes_of({}), hashes_of(plan_with_buffers));
        }
}

}  // namespace
}  // namespace spillway::test
