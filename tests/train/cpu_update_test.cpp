// SPDX-License-Identifier: Apache-2.0
// Updates on the CPU beside a device whose memory is not the host's: whole training steps, on a device that plays a GPU.
#include <utility>

#include <gmock/gmock.h>

#include "core/error.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "support/faulty_store.hpp"
#include "support/scratch_directory.hpp"
#include "support/separate_device.hpp"
#include "train/plan_file.hpp"
#include "train/same_bits_suite.hpp"

namespace spillway::test {
namespace {

/// The CPU's, one of whose updates fails.
class FailingOps : public kernels::OptimizerOps {
 public:
  FailingOps(std::unique_ptr<kernels::OptimizerOps> ops, int failing) : ops_(std::move(ops)), left_(failing) {}
  void adamw(Queue& queue, const kernels::AdamWStep& op) override {
    if (left_-- == 0) throw Error("the CPU went on strike", ExitCode::failure);
    ops_->adamw(queue, op);
  }
  void sum_of_squares(Queue& queue, const kernels::SumOfSquares& op) override { ops_->sum_of_squares(queue, op); }
  void adafactor_sums(Queue& queue, const kernels::AdafactorSums& op) override { ops_->adafactor_sums(queue, op); }
  void adafactor_factors(Queue& queue, const kernels::AdafactorFactors& op) override {
    ops_->adafactor_factors(queue, op);
  }
  void adafactor_second_moment(Queue& queue, const kernels::AdafactorSecondMoment& op) override {
    ops_->adafactor_second_moment(queue, op);
  }
  void adafactor_update_sum(Queue& queue, const kernels::AdafactorUpdateSum& op) override {
    ops_->adafactor_update_sum(queue, op);
  }
  void adafactor_step(Queue& queue, const kernels::AdafactorStep& op) override { ops_->adafactor_step(queue, op); }
  void decode_parameter(Queue& queue, const kernels::DecodeParameter& op) override {
    ops_->decode_parameter(queue, op);
  }
  void encode_parameter(Queue& queue, const kernels::EncodeParameter& op) override {
    ops_->encode_parameter(queue, op);
  }
  void decode_state(Queue& queue, const kernels::DecodeState& op) override { ops_->decode_state(queue, op); }
  void encode_state(Queue& queue, const kernels::EncodeState& op) override { ops_->encode_state(queue, op); }

 private:
  std::unique_ptr<kernels::OptimizerOps> ops_;
  int left_;
};

class CpuUpdate : public testing::Test {
 protected:
  void SetUp() override { write_training_folder(folder_.path()); }
  StateHashes hashes(const Numerics& numerics, const Placement& placement) {
    const auto communicator = comm::make_single_communicator();
    return train_placed(folder_.path(), numerics, placement, *communicator, device_.get(), kernels_beside_gpu());
  }

  /// All moments in host memory, or on nvme, and all updated by the CPU.
  train::RunOptions options(train::TierChoice moments = train::TierChoice::host) const {
    train::RunOptions options = training_options(folder_.path());
    options.train.precision = train::Precision::bf16;
    options.offload.exp_avg = options.offload.exp_avg_sq = moments;
    options.offload.store = train::StoreChoice::memory;
    options.offload.optimizer_on = train::OptimizerPlace::cpu;
    return options;
  }
  Trainee trainee(const train::RunOptions& options, train::EngineSwitches with) {
    return {options, *communicator_, std::move(with), {}, {}, device_.get()};
  }
  static std::string message_of(Trainee& trainee) {
    try {
      trainee.run(4);
      trainee.engine().finish_update();
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::failure);
      return error.what();
    }
    ADD_FAILURE() << "the run went on as if nothing had happened";
    return {};
  }

  ScratchDirectory folder_;
  std::unique_ptr<comm::Communicator> communicator_ = comm::make_single_communicator();
  std::unique_ptr<Device> device_ = make_separate_device();
};

TEST_F(CpuUpdate, OfWhateverPlacement_GivesTheBitsOfAllOnTheDevice) {
  using train::Precision, train::StateFormat;
  for (const Numerics& numerics :
       {Numerics{.precision = Precision::bf16},
        {.precision = Precision::bf16, .state_format = StateFormat::bf16, .two_groups = true},
        {.precision = Precision::bf16, .state_format = StateFormat::int8, .fp32_gradients = true},
        {.state_format = StateFormat::int8, .freeze_encoder = true}}) {
    SCOPED_TRACE(testing::Message() << numerics);
    const StateHashes expected = hashes(numerics, {.stage = 0});
    for (const Placement& placement : placements_beside_gpu())
      EXPECT_EQ(hashes(numerics, placement), expected) << placement;
  }
}

TEST_F(CpuUpdate, StateReadWhileUpdatesRun_IsThatOfTheLastStep) {
  Trainee whole = trainee(options(), kernels_beside_gpu()), read = trainee(options(), kernels_beside_gpu());
  whole.run(4);

  read.run(2);
  const StateHashes before = read.hashes();
  read.run(2);

  EXPECT_EQ(read.hashes(), whole.hashes());
  EXPECT_NE(before, whole.hashes());
  EXPECT_EQ(read.losses(), whole.losses());
}

TEST_F(CpuUpdate, IsToldInThePlan) {
  train::RunOptions split = options();
  split.offload.optimizer_on = train::OptimizerPlace::split;
  const Trainee all = trainee(options(), kernels_beside_gpu()), some = trainee(split, kernels_beside_gpu());

  EXPECT_THAT(train::plan_summary(all.job()), testing::HasSubstr("; the CPU updates 100.0 % of the parameters"));
  EXPECT_THAT(train::plan_json(all.job()), testing::HasSubstr("\"share_updated_on_cpu\": 1.0"));
  EXPECT_THAT(train::plan_summary(some.job()), testing::HasSubstr("; the CPU updates 2"));  // a quarter
}

TEST_F(CpuUpdate, OfAFrozenUnit_IsNone) {
  train::RunOptions frozen = options();
  frozen.train.freeze_encoder = true;
  Trainee run = trainee(frozen, kernels_beside_gpu());

  for (std::size_t extent = 0; extent < run.job().facts.extent_units.size(); ++extent) {
    const auto unit = static_cast<std::size_t>(run.job().facts.extent_units[extent]);
    EXPECT_EQ(run.job().plan.placement.updated_on_cpu(extent), run.job().units[unit].trainable);
  }
}

TEST_F(CpuUpdate, ThatFails_EndsTheRunWithItsMessage) {
  for (const int failing : {0, 30}) {
    train::EngineSwitches with = kernels_beside_gpu();
    with.kernels->cpu_optimizer = std::make_unique<FailingOps>(std::move(with.kernels->cpu_optimizer), failing);
    Trainee run = trainee(options(), std::move(with));

    EXPECT_THAT(message_of(run), testing::HasSubstr("the CPU went on strike"));
  }
}

TEST_F(CpuUpdate, WhoseDriveFails_EndsTheRunAndNamesUnitAndExtent) {
  const auto memory = offload::make_memory_store();
  auto store = std::make_unique<FaultyStore>(*memory, Faults{});
  FaultyStore& drive = *store;
  train::EngineSwitches with = kernels_beside_gpu();
  with.store = std::move(store);
  Trainee run = trainee(options(train::TierChoice::nvme), std::move(with));
  run.run(2);
  run.engine().finish_update();
  drive.set_faults({.failing_read = 4, .error_number = EIO});

  const std::string message = message_of(run);

  EXPECT_THAT(message, testing::HasSubstr("Input/output error"));
  EXPECT_THAT(message, testing::HasSubstr("optimizer step 3, update of unit "));
  EXPECT_THAT(message, testing::HasSubstr("extent 2, exp_avg, file "));
}

}  // namespace
}  // namespace spillway::test
