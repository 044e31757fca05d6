// SPDX-License-Identifier: Apache-2.0
#include <iostream>

#include <unistd.h>

#include "app/commands.hpp"
#include "app/config_record.hpp"
#include "app/device_choice.hpp"
#include "app/machine_file.hpp"
#include "app/overrides.hpp"
#include "app/shared_config.hpp"
#include "train/trainer.hpp"

namespace spillway::app {

ExitCode train_command(const TrainArguments& arguments, Runtime& runtime) {
  const train::RunOptions options = read_shared_run_options(
      runtime.communicator,
      {.file = arguments.config, .environment = process_environment(), .arguments = arguments.settings});
  if (arguments.print_config) {
    if (runtime.communicator.rank() == 0) std::cout << config_text(options) << std::flush;
    return ExitCode::done;
  }
  train::RunOptions settled = options;
  const std::unique_ptr<Device> gpu = open_gpu(settled, runtime);
  train::Runtime lent = lend(runtime, gpu.get());
  lent.profile = known_profile(lent.device, runtime.communicator);
  const train::TrainRequest request{.options = settled,
                                    .config = config_record(options),
                                    .dry_run = arguments.dry_run,
                                    .progress_bar = isatty(STDERR_FILENO) == 1,
                                    .print = [](const std::string& text) { std::cout << text << std::flush; }};
  return train::train(request, lent) == train::Outcome::stopped ? ExitCode::stopped : ExitCode::done;
}

}  // namespace spillway::app
