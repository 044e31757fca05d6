// SPDX-License-Identifier: Apache-2.0
// Rank 1 keeps the others waiting, in a way and at a place that the argument says. Rank 0 must end the job within the timeout.
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string_view>
#include <thread>

#include "comm/mpi_communicator.hpp"
#include "comm/watchdog.hpp"

namespace {

using spillway::ConstTensorView;
using spillway::TensorView;

constexpr std::chrono::seconds kTimeout{1};

bool first() { return std::string_view(std::getenv("OMPI_COMM_WORLD_RANK")) == "0"; }

void run(spillway::comm::Communicator& communicator, std::string_view way) {
  const bool one = communicator.rank() == 1;
  spillway::comm::Watchdog& watchdog = communicator.watchdog();
  communicator.barrier();
  watchdog.set_timeout(kTimeout);  // ranks may take longer to start
  watchdog.begin_step(7);
  watchdog.about("acquire encoder.3");
  if (one && way == "killed") raise(SIGKILL);
  if (one && (way == "collective" || way == "split")) raise(SIGSTOP);
  if (one && way == "busy") {
    watchdog.about("forward encoder.2");
    std::this_thread::sleep_for(std::chrono::minutes(1));
  }
  if (way == "split") static_cast<void>(communicator.split(0, 0));
  std::array<float, 4> shard{};
  std::array<float, 12> full{};
  const auto size = static_cast<std::int64_t>(communicator.size());
  const TensorView whole = TensorView(std::span<float>(full), {12}).flat(0, 4 * size);
  if (one && way == "other") communicator.barrier();
  communicator.all_gather({}, ConstTensorView(std::span<const float>(shard), {4}), whole).wait();
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view way = argv[1];
  if (way == "start" && !first()) raise(SIGSTOP);
  try {
    const spillway::comm::MpiEnvironment environment(
        &argc, &argv, way == "start" ? kTimeout : spillway::comm::Watchdog::kDefaultTimeout);
    const auto device = spillway::make_host_device();
    const auto communicator = spillway::comm::make_mpi_communicator(environment, *device);
    run(*communicator, way);
    if (way == "end" && environment.rank() == 1) raise(SIGSTOP);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
  }
  return 0;
}
