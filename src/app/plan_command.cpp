// SPDX-License-Identifier: Apache-2.0
#include <iostream>
#include <memory>

#include <fmt/format.h>

#include "app/commands.hpp"
#include "app/config_record.hpp"
#include "app/device_choice.hpp"
#include "app/machine_file.hpp"
#include "app/overrides.hpp"
#include "app/shared_config.hpp"
#include "core/log.hpp"
#include "train/agreement.hpp"
#include "train/job.hpp"
#include "train/plan_file.hpp"
#include "train/plan_report.hpp"

namespace spillway::app {
namespace {

using train::DeviceChoice;
using train::Precision;

/// What is "auto" and depends on the device, as open_gpu settles it. \return whether the GPU is used
bool settle(train::RunOptions& options, const plan::MachineProfile& profile) {
  if (options.train.device == DeviceChoice::cuda && !profile.gpu)
    throw ConfigError(fmt::format("train.device = \"cuda\": the machine profile \"{}\" has no GPU", profile.name));
  const bool gpu = profile.gpu && options.train.device != DeviceChoice::cpu;
  if (!gpu && options.train.tf32) throw ConfigError("train.tf32 = true is for a GPU, and the CPU is used");
  options.train.device = gpu ? DeviceChoice::cuda : DeviceChoice::cpu;
  Precision& precision = options.train.precision;
  if (precision == Precision::automatic)
    precision = !gpu ? Precision::fp32 : profile.gpu->bf16_flops > 0.0 ? Precision::bf16 : Precision::fp16;
  return gpu;
}

/// On rank 0, by itself.
std::string plan_text(const train::RunOptions& options, const train::PlannedMachine& machine, bool json) {
  const auto alone = comm::make_single_communicator();
  const auto job = train::plan_job(options, machine, *alone);
  train::PlanReport report = train::report_of(*job);
  std::string text =
      json ? train::plan_json(*job)
           : train::plan_summary(*job) + "\n\n" + job->plan.ledger.text() + "\n" + train::prediction_text(*job);
  report.largest = train::largest_batch(*job, machine);
  return json ? train::report_json(text, report) : text + train::report_text(report, options.data);
}

}  // namespace

ExitCode plan_command(const PlanArguments& arguments, Runtime& runtime) {
  comm::Communicator& communicator = runtime.communicator;
  train::RunOptions options = read_shared_run_options(
      communicator, {.file = arguments.config, .environment = process_environment(), .arguments = arguments.settings});
  std::optional<plan::MachineProfile> profile;
  if (arguments.profile.empty()) profile = saved_profile(communicator);
  else train::agree(communicator, [&] { profile = read_profile(arguments.profile); });

  const int ranks = arguments.ranks > 0 ? arguments.ranks : communicator.size();
  std::unique_ptr<Device> gpu;
  std::optional<train::Runtime> seen;
  std::unique_ptr<train::PlannedMachine> machine;
  if (profile) {
    train::agree(communicator, [&] {
      const bool uses_gpu = settle(options, *profile);
      machine = std::make_unique<train::DescribedMachine>(*profile, ranks, uses_gpu);
      if (uses_gpu && ranks > 1)
        log::warning(
            "several ranks on GPUs need NCCL, which this version does not have yet: this is what they would take");
    });
  } else {
    gpu = open_gpu(options, runtime);
    seen.emplace(lend(runtime, gpu.get()));
    if (arguments.ranks > 0) seen->nodes = comm::NodeLayout::filled(1, ranks);
    seen->profile = known_profile(seen->device, communicator);
    machine = std::make_unique<train::ThisMachine>(*seen);
  }
  train::agree(communicator, [&] {
    if (communicator.rank() == 0) std::cout << plan_text(options, *machine, arguments.json) << std::flush;
  });
  return ExitCode::done;
}

}  // namespace spillway::app
