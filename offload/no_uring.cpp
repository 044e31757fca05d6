// SPDX-License-Identifier: Apache-2.0
#include "core/error.hpp"
#include "offload/block_store.hpp"

namespace spillway::offload {

std::unique_ptr<BlockStore> make_uring_store(const StoreOptions& /*options*/) {
  throw NotCompiled("this build has no io_uring: install liburing-dev and configure with -DSPILLWAY_URING=ON");
}

bool uring_compiled() noexcept { return false; }

}  // namespace spillway::offload
