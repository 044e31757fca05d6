// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <variant>

#include <signal.h>
#include <unistd.h>

#include "app/commands.hpp"
#include "app/same_call.hpp"
#include "app/units.hpp"
#include "core/host_name.hpp"
#include "core/log.hpp"
#include "train/agreement.hpp"
#include "train/stop_request.hpp"

namespace spillway::app {

using train::agree;
using train::AgreedFailure;
using train::current_failure;
using train::Failure;
namespace {

/// train.collective_timeout as far as it is known before the configuration is read, which ranks come together for.
std::chrono::milliseconds timeout_of_start() {
  const char* text = std::getenv("SPILLWAY_TRAIN_COLLECTIVE_TIMEOUT");
  const auto asked = text != nullptr ? parse_duration(text) : std::nullopt;
  return asked && asked->count() > 0 ? *asked : comm::Watchdog::kDefaultTimeout;
}

ExitCode print_text(const PrintText& print, const Runtime& runtime) {
  if (runtime.communicator.rank() == 0) std::cout << print.text << std::flush;
  return ExitCode::done;
}

ExitCode run(const std::vector<std::string>& arguments, Runtime& runtime) {
  std::optional<Command> command;
  agree(runtime.communicator, [&] { command = parse_command_line(arguments); });
  require_same_call(runtime.communicator, arguments);
  struct Dispatch {
    Runtime& runtime;
    ExitCode operator()(const TrainArguments& asked) const { return train_command(asked, runtime); }
    ExitCode operator()(const PlanArguments& asked) const { return plan_command(asked, runtime); }
    ExitCode operator()(const DoctorArguments& asked) const { return doctor_command(asked, runtime); }
    ExitCode operator()(const EvaluateArguments& asked) const { return evaluate_command(asked, runtime); }
    ExitCode operator()(const GenerateArguments& asked) const { return generate_command(asked, runtime); }
    ExitCode operator()(const CheckpointArguments& asked) const { return checkpoint_command(asked, runtime); }
    ExitCode operator()(const InitArguments& asked) const { return init_command(asked, runtime); }
    ExitCode operator()(const PrintText& asked) const { return print_text(asked, runtime); }
  };
  return std::visit(Dispatch{runtime}, *command);
}

/// The one place where failures are printed.
ExitCode run_and_report(const std::vector<std::string>& arguments, Runtime& runtime) {
  try {
    const ExitCode code = run(arguments, runtime);
    if (!std::cout.flush()) throw IoError("standard output could not be written");
    return code;
  } catch (const AgreedFailure& failure) {
    if (runtime.communicator.rank() == 0) log::error(failure.what());
    return failure.exit_code();
  } catch (...) {
    Failure failure = current_failure();
    if (runtime.environment.nodes().nodes() > 1 && runtime.communicator.rank() == 0)
      failure.message = "[rank 0 on " + host_name() + "] " + failure.message;  // the others' are marked by the log
    // The other ranks may be waiting for this one.
    if (runtime.communicator.size() > 1) runtime.communicator.abort(static_cast<int>(failure.code), failure.message);
    log::error(failure.message);
    return failure.code;
  }
}

}  // namespace
}  // namespace spillway::app

int main(int argc, char** argv) {
  using namespace spillway;
  const auto start = std::chrono::steady_clock::now();
  // A file that outgrows the limit of its size is an error like a full disk, not the end of the program.
  signal(SIGXFSZ, SIG_IGN);
  try {
    train::StopRequest::expect_warnings();
    const comm::MpiEnvironment environment(&argc, &argv, app::timeout_of_start());
    log::start(environment.rank(), isatty(STDERR_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr,
               environment.nodes().nodes() > 1 ? host_name() : std::string());
    // Caught in here: an exception that leaves the environment ends the job before anybody has said why.
    try {
      const auto device = make_host_device();
      const auto communicator = comm::make_mpi_communicator(environment, *device);
      app::Runtime runtime = {environment, *device, *communicator, start};
      return static_cast<int>(app::run_and_report({argv + 1, argv + argc}, runtime));
    } catch (...) {
      const train::Failure failure = train::current_failure();
      log::error(failure.message);
      // The other ranks may be waiting for this one.
      if (environment.size() > 1) comm::MpiEnvironment::abort(static_cast<int>(failure.code));
      return static_cast<int>(failure.code);
    }
  } catch (...) {
    const train::Failure failure = train::current_failure();
    log::error(failure.message);
    return static_cast<int>(failure.code);
  }
}
