// SPDX-License-Identifier: Apache-2.0
#include "core/cuda_device.hpp"
#include "core/error.hpp"

namespace spillway {
namespace {

[[noreturn]] void refuse() {
  throw NotCompiled("this build has no CUDA backend: install the CUDA toolkit and configure with -DSPILLWAY_CUDA=ON");
}

}  // namespace

bool cuda_compiled() noexcept { return false; }

std::vector<CudaGpu> list_cuda_gpus() { refuse(); }

std::unique_ptr<Device> make_cuda_device(const CudaDeviceOptions& /*options*/) { refuse(); }

}  // namespace spillway
