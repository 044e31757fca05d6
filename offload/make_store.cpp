// SPDX-License-Identifier: Apache-2.0
#include "core/error.hpp"
#include "core/log.hpp"
#include "offload/block_store.hpp"

namespace spillway::offload {
namespace {

std::unique_ptr<BlockStore> best_store(const StoreOptions& options) {
  std::string reason;
  try {
    return make_uring_store(options);
  } catch (const NotCompiled& error) {
    reason = error.what();
  } catch (const IoError& error) {
    reason = error.what();
  }
  auto store = make_posix_store(options);
  log::info("storage: " + store->description() + "; not io_uring: " + reason);
  return store;
}

}  // namespace

std::unique_ptr<BlockStore> make_store(const std::string& name, const StoreOptions& options) {
  if (name == "auto") return best_store(options);
  if (name == "uring") return make_uring_store(options);
  if (name == "posix") return make_posix_store(options);
  if (name == "memory") return make_memory_store();
  throw ConfigError("store: \"" + name + "\"; expected auto, uring, posix or memory");
}

}  // namespace spillway::offload
