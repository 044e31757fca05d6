// SPDX-License-Identifier: Apache-2.0
#include "app/shared_config.hpp"

#include "app/toml_reader.hpp"
#include "comm/watchdog.hpp"
#include "train/agreement.hpp"

namespace spillway::app {

using train::text_of_rank_0;

train::RunOptions read_shared_run_options(comm::Communicator& communicator, const ConfigSources& sources) {
  const std::string text = text_of_rank_0(communicator, [&] { return config_text(read_run_options(sources)); });
  train::RunOptions options = run_options_of(read_toml_text(text, "rank 0's configuration"));
  communicator.watchdog().set_timeout(options.train.collective_timeout);
  return options;
}

}  // namespace spillway::app
