// SPDX-License-Identifier: Apache-2.0
#include "train/job_costs.hpp"

#include <gmock/gmock.h>

#include "comm/communicator.hpp"
#include "core/error.hpp"
#include "model/t5_presets.hpp"
#include "train/job_batches.hpp"
#include "train/plan_file.hpp"
#include "train/planned_machine.hpp"
#include "train/run_state.hpp"

namespace spillway::train {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// What tests/bench/gpu_speed.py trains: a preset from scratch, sequences of 128 + 128 tokens, AdamW.
RunOptions preset(const std::string& model, std::int64_t batch) {
  RunOptions options;
  options.model.path = model;
  options.train.device = DeviceChoice::cuda;
  options.train.precision = Precision::bf16;
  options.train.per_device_train_batch_size = batch;
  options.train.max_steps = 10;
  return options;
}

std::unique_ptr<Job> planned(const RunOptions& options, const PlannedMachine& machine) {
  return plan_job(options, machine, *comm::make_single_communicator());
}

DescribedMachine h200(int ranks = 1) { return {plan::named_profile("h200-141gb"), ranks, true}; }

BatchShape samples(double count, double source, double target) {
  BatchShape shape;
  shape.add(source, target);
  return shape.times(count);
}

TEST(ModelFlops, OfAToken_AreThoseThatBenchmarksCount) {
  const BatchShape pair = samples(1, 128, 128);

  EXPECT_NEAR(model_flops(model::t5_preset("t5-large"), pair) / 256, 2.26e9, 0.02e9);
  EXPECT_NEAR(model_flops(model::t5_preset("t5-3b"), pair) / 256, 8.74e9, 0.05e9);
}

TEST(ModelFlops, AnEncoderTokenNeverCrossesTheDecoder) {
  const model::T5Config config = model::t5_preset("t5-small");

  const double sources = model_flops(config, samples(1, 100, 0));
  const double targets = model_flops(config, samples(1, 0, 100));

  // Encoder: 6 blocks of 4 * 512^2 + 2 * 512 * 2048 elements, and of the decoder's the keys and values.
  const double encoder = 6.0 * (4 * 512.0 * 512 + 2 * 512.0 * 2048), keys = 6.0 * 2 * 512 * 512;
  EXPECT_DOUBLE_EQ(sources, 3 * (2 * 100 * (encoder + keys) + 6 * 4.0 * 100 * 100 * 512));
  const double decoder = encoder + 6.0 * 2 * 512 * 512, head = 32128.0 * 512;
  EXPECT_DOUBLE_EQ(targets, 3 * (2 * 100 * (decoder + head) + 6 * 4.0 * 100 * 100 * 512));
}

TEST(NumericSignatureOf, APlanForAGpu_NamesIt) {
  const RunOptions options = preset("t5-small", 1);
  const DescribedMachine without_it(plan::named_profile("h200-141gb"), 1, false);

  EXPECT_EQ(numeric_signature(*planned(options, h200())).at("device"), "cuda");
  EXPECT_EQ(numeric_signature(*planned(options, without_it)).at("device"), "cpu");
}

TEST(CostsOf, StagesAddUpToTheModel) {
  const auto job = planned(preset("t5-base", 4), h200());
  plan::Work forward, backward;
  for (const plan::StageCosts& stage : job->costs.stages) {
    forward += stage.forward;
    backward += stage.backward;
  }

  // Attention's gradient makes the scores once more.
  EXPECT_NEAR(forward.product_flops + backward.product_flops + 3.0 * forward.attention_flops, job->costs.model_flops,
              1e-9 * job->costs.model_flops);
  EXPECT_DOUBLE_EQ(backward.attention_flops, 2.5 * forward.attention_flops);
}

TEST(CostsOf, UnitsAddUpToTheState) {
  const auto job = planned(preset("t5-base", 4), h200());
  double parameters = 0.0;
  std::vector<double> kinds(kStateKinds, 0.0);
  for (const plan::UnitCosts& unit : job->costs.units) parameters += static_cast<double>(unit.parameters);
  const plan::StateBytes state = plan::state_bytes(job->plan.placement, job->facts);
  for (std::size_t kind = 0; kind < kStateKinds; ++kind)
    for (const plan::TierBytes& unit : state.kinds[kind]) kinds[kind] += unit[0] + unit[1] + unit[2];

  EXPECT_EQ(kinds, (std::vector<double>{2 * parameters, 2 * parameters, 4 * parameters, 4 * parameters}));
  EXPECT_GE(parameters, static_cast<double>(job->map->parameters()));
  EXPECT_LE(parameters, 1.001 * static_cast<double>(job->map->parameters()));
}

TEST(CostsOf, AFrozenEncoder_HasNoBackwardPassAndNoUpdate) {
  RunOptions options = preset("t5-base", 4);
  const double whole = planned(options, h200())->prediction->use(plan::Resource::compute).busy_seconds;
  options.train.freeze_encoder = true;
  const auto job = planned(options, h200());

  EXPECT_EQ(job->costs.stages[1].backward, plan::Work{});
  EXPECT_EQ(job->costs.units[static_cast<std::size_t>(job->layout->encoder_unit(0))].gradient_bytes, 0.0);
  EXPECT_LT(job->prediction->use(plan::Resource::compute).busy_seconds, 0.8 * whole);
}

TEST(CostsOf, SeveralRanks_ShareStateAndSendGradients) {
  RunOptions options = preset("t5-base", 4);
  const auto alone = planned(options, h200());
  const auto of_four = planned(options, h200(4));
  options.zero.stage = 2;
  const auto stage_2 = planned(options, h200(4));

  EXPECT_EQ(alone->prediction->use(plan::Resource::network).bytes, 0.0);
  const plan::UnitCosts& unit = of_four->costs.units[1];
  EXPECT_NEAR(static_cast<double>(unit.parameters), static_cast<double>(alone->costs.units[1].parameters) / 4, 256.0);
  EXPECT_EQ(unit.reduce_link_bytes, 3.0 * 2.0 * static_cast<double>(unit.parameters));
  EXPECT_EQ(unit.gather_link_bytes, 3.0 * 2.0 * static_cast<double>(unit.parameters));
  EXPECT_TRUE(of_four->costs.gathers_on_acquire);
  EXPECT_FALSE(stage_2->costs.gathers_on_acquire);
  EXPECT_EQ(of_four->costs.ranks_on_node, 4);
  EXPECT_FALSE(of_four->costs.several_nodes);
  EXPECT_TRUE(planned(options, h200(9))->costs.several_nodes);
}

/// Milliseconds a step that were measured on an H200: docs/benchmarks.md.
TEST(Predictions, OfAnH200_AreWhatWasMeasured) {
  struct Measured {
    const char* model;
    std::int64_t batch;
    GradientCheckpointing checkpointing;
    double seconds;
  };
  for (const Measured& m : {Measured{"t5-large", 40, GradientCheckpointing::off, 0.0610},
                            Measured{"t5-3b", 20, GradientCheckpointing::off, 0.117},
                            Measured{"t5-3b", 128, GradientCheckpointing::on, 0.704}}) {
    RunOptions options = preset(m.model, m.batch);
    options.train.gradient_checkpointing = m.checkpointing;
    const auto job = planned(options, h200());

    ASSERT_TRUE(job->prediction);
    EXPECT_NEAR(job->prediction->seconds / m.seconds, 1.0, 0.15) << m.model << ", batch " << m.batch;
    EXPECT_EQ(job->prediction->bound(), plan::Resource::compute);
  }
}

TEST(PlanJob, OnASmallerCard_MovesMomentsAndIsSlower) {
  const DescribedMachine card(plan::named_profile("rtx3090-24gb"), 1, true);
  RunOptions options = preset("t5-3b", 4);

  const auto job = planned(options, card);

  ASSERT_TRUE(job->prediction);
  EXPECT_GT(job->prediction->use(plan::Resource::pcie_up).bytes, 1e9);
  EXPECT_LE(job->plan.ledger.peak(plan::Tier::device),
            static_cast<std::size_t>(card.profile()->gpu->memory_bytes - card.profile()->gpu->driver_bytes));
  EXPECT_GT(job->prediction->seconds, planned(options, h200())->prediction->seconds);
}

TEST(PlanJob, BudgetsOfTheConfiguration_AreKept) {
  RunOptions options = preset("t5-base", 4);
  options.memory.device = std::uint64_t{3} << 30;

  const auto job = planned(options, h200());

  EXPECT_LE(job->plan.ledger.peak(plan::Tier::device), std::size_t{3} << 30);
  EXPECT_GT(planned(preset("t5-base", 4), h200())->plan.ledger.peak(plan::Tier::device), std::size_t{3} << 30);
}

TEST(PlanJob, WhatDoesNotFit_IsRefusedWithLedgerAndTheBatchThatDoes) {
  const DescribedMachine card(plan::named_profile("rtx3090-24gb"), 1, true);
  const auto message = [&](const RunOptions& options) -> std::string {
    try {
      (void)planned(options, card);
      return "it fits";
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::plan) << error.what();
      return error.what();
    }
  };

  EXPECT_THAT(message(preset("t5-11b", 1)),
              AllOf(HasSubstr("nvme: needs"), HasSubstr("context and libraries of the GPU"), HasSubstr("not even")));
  EXPECT_THAT(message(preset("t5-large", 100'000)), HasSubstr("that fits is"));
}

TEST(PlanJob, WhatDoesNotFitBesideItsGpu_HasWeightsAndGradientsInHostMemory) {
  RunOptions options = preset("t5-11b", 4);
  options.memory.device = std::uint64_t{20} << 30;
  options.memory.host = std::uint64_t{110} << 30;
  options.memory.nvme = std::uint64_t{55} << 30;
  options.offload.nvme_dirs = {"/nowhere"};

  const auto job = planned(options, h200());

  const plan::Ledger& ledger = job->plan.ledger;
  const auto on_host = [&](const char* name) { return ledger.bytes(name, plan::Tier::host); };
  EXPECT_LE(ledger.peak(plan::Tier::device), std::size_t{20} << 30);
  EXPECT_GT(on_host("weight"), 0U);
  EXPECT_GT(ledger.bytes("weight", plan::Tier::device), on_host("weight"));
  EXPECT_GT(on_host(plan::entry::kGrad), on_host("weight"));
  EXPECT_EQ(on_host(plan::entry::kGrad) + ledger.bytes(plan::entry::kGrad, plan::Tier::device),
            job->gradients.grad_bytes());
  EXPECT_GT(ledger.bytes(plan::entry::kGathered), 0U);
  EXPECT_THAT(plan_summary(*job), HasSubstr("grad on device ("));
  EXPECT_GT(job->prediction->use(plan::Resource::pcie_up).bytes, 0.0);
  options.offload.weight = TierChoice::host;
  try {
    (void)planned(options, h200(2));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::config) << error.what();
    EXPECT_THAT(error.what(), HasSubstr("several ranks on GPUs"));
  }
}

TEST(PlanJob, ADescribedHost_HasItsOwnThreadsAndMemory) {
  plan::MachineProfile profile = plan::named_profile("a10g-24gb");
  profile.host.cores = 12;
  RunOptions options = preset("t5-small", 2);
  options.train.device = DeviceChoice::cpu;
  options.train.precision = Precision::fp32;
  profile.links.ranks_per_node = 3;

  const auto job = planned(options, DescribedMachine(profile, 4, false));

  EXPECT_FALSE(job->on_gpu);
  EXPECT_EQ(job->threads, 4);
  EXPECT_EQ(job->nodes.nodes(), 2);
  EXPECT_EQ(job->budgets.host, static_cast<std::size_t>(0.95 * static_cast<double>(profile.host.memory_bytes)) / 3);
  EXPECT_TRUE(job->prediction);
}

TEST(LargestBatch, IsTheLargestThatFits) {
  const DescribedMachine card(plan::named_profile("rtx4090-24gb"), 1, true);
  const auto fits = [&](std::int64_t batch) {
    try {
      (void)planned(preset("t5-base", batch), card);
      return true;
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::plan) << error.what();
      return false;
    }
  };

  const auto job = planned(preset("t5-base", 1), card);
  const LargestBatch largest = largest_batch(*job, card);

  EXPECT_GT(largest.samples, 16);
  EXPECT_TRUE(fits(largest.samples));
  EXPECT_FALSE(fits(largest.samples + 1));
  ASSERT_TRUE(largest.seconds);
  EXPECT_DOUBLE_EQ(*largest.seconds, planned(preset("t5-base", largest.samples), card)->prediction->seconds);
}

}  // namespace
}  // namespace spillway::train
