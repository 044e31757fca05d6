// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

#include "app/command_line.hpp"
#include "comm/communicator.hpp"
#include "comm/mpi_communicator.hpp"
#include "core/device.hpp"
#include "core/error.hpp"

namespace spillway::app {

/// What main owns and lends to a command.
struct Runtime {
  const comm::MpiEnvironment& environment;
  Device& device;
  comm::Communicator& communicator;
  /// When the program started: train.time_limit counts from here.
  std::chrono::steady_clock::time_point start;
};

// One function for each command, called on every rank. Results go to standard output, from rank 0.
// \throws AgreedFailure for what all ranks know of; any other exception is this rank's alone and ends the others too

[[nodiscard]] ExitCode train_command(const TrainArguments& arguments, Runtime& runtime);
[[nodiscard]] ExitCode plan_command(const PlanArguments& arguments, Runtime& runtime);
[[nodiscard]] ExitCode doctor_command(const DoctorArguments& arguments, Runtime& runtime);
[[nodiscard]] ExitCode evaluate_command(const EvaluateArguments& arguments, Runtime& runtime);
[[nodiscard]] ExitCode generate_command(const GenerateArguments& arguments, Runtime& runtime);
[[nodiscard]] ExitCode checkpoint_command(const CheckpointArguments& arguments, Runtime& runtime);
[[nodiscard]] ExitCode init_command(const InitArguments& arguments, Runtime& runtime);

}  // namespace spillway::app
