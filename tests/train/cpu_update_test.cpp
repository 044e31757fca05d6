// SPDX-License-Identifier: Apache-2.0
// Updates on the CPU beside a device whose memory is not the host's: whole training steps, on a device that plays a GPU.
#include <gtest/gtest.h>

#include "kernels/cpu/cpu_kernels.hpp"
#include "support/scratch_directory.hpp"
#include "support/separate_device.hpp"
#include "train/same_bits_suite.hpp"

namespace spillway::test {
namespace {

/// What the device computes with, and the CPU beside it.
train::EngineSwitches switches() {
  const auto device = kernels::cpu::make_thread_pool(1), host = kernels::cpu::make_thread_pool(2);
  train::EngineSwitches switches;
  switches.kernels.emplace(train::KernelSet{.model = kernels::cpu::make_model_ops(device),
                                            .optimizer = kernels::cpu::make_optimizer_ops(device),
                                            .generation = kernels::cpu::make_generation_ops(device),
                                            .cpu_optimizer = kernels::cpu::make_optimizer_ops(host)});
  return switches;
}

class CpuUpdate : public testing::Test {
 protected:
  void SetUp() override { write_training_folder(folder_.path()); }
  StateHashes hashes(const Numerics& numerics, const Placement& placement) {
    const auto communicator = comm::make_single_communicator();
    return train_placed(folder_.path(), numerics, placement, *communicator, device_.get(), switches());
  }

  ScratchDirectory folder_;
  std::unique_ptr<Device> device_ = make_separate_device();
};

TEST_F(CpuUpdate, OfWhateverPlacement_GivesTheBitsOfAllOnTheDevice) {
  for (const Numerics& numerics : all_numerics()) {
    if (numerics.optimizer != train::OptimizerName::adamw) continue;
    SCOPED_TRACE(testing::Message() << numerics);
    const StateHashes expected = hashes(numerics, {.stage = 0});
    for (const Placement& placement : placements_beside_gpu())
      EXPECT_EQ(hashes(numerics, placement), expected) << placement;
  }
}

}  // namespace
}  // namespace spillway::test
