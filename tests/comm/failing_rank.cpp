// SPDX-License-Identifier: Apache-2.0
// Rank 1 fails while rank 0 waits for it in a collective. The argument says how.
#include <array>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string_view>
#include <thread>

#include "comm/mpi_communicator.hpp"

namespace {

void fail(spillway::comm::Communicator& communicator, spillway::comm::Communicator& group, std::string_view way) {
  constexpr const char* kReason = "rank 1 has no data";
  if (way == "abort") communicator.abort(5, kReason);
  if (way == "worker_thread") std::thread([&] { communicator.abort(5, kReason); }).join();
  if (way == "group") group.abort(5, kReason);
  throw std::runtime_error(kReason);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    spillway::comm::MpiEnvironment environment(&argc, &argv);
    const auto device = spillway::make_host_device();
    const auto communicator = spillway::comm::make_mpi_communicator(environment, *device);
    const auto group = communicator->split(0, 0);
    const std::array<float, 4> shard{};
    std::array<float, 8> full{};
    // A collective that rank 0 never joins: giving the communicator up must not wait for it.
    if (communicator->rank() == 1) {
      static_cast<void>(communicator->all_gather({}, spillway::ConstTensorView(std::span<const float>(shard), {4}),
                                                 spillway::TensorView(std::span<float>(full), {8})));
      fail(*communicator, *group, argv[1]);
    }
    communicator->barrier();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
  }
  return 0;
}
