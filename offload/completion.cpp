// SPDX-License-Identifier: Apache-2.0
#include <exception>
#include <string>

#include "core/log.hpp"
#include "offload/block_store.hpp"

namespace spillway::offload {
namespace {

// Nobody is left to tell, but a lost transfer must not pass in silence.
void wait_and_drop_error(std::shared_ptr<Completion::State> state) noexcept {
  if (!state) return;
  try {
    state->wait();
  } catch (const std::exception& error) {
    log::error("offload: error of a dropped transfer: " + std::string(error.what()));
  }
}

}  // namespace

Completion& Completion::operator=(Completion&& other) noexcept {
  if (this != &other) {
    wait_and_drop_error(std::move(state_));
    state_ = std::move(other.state_);
  }
  return *this;
}

Completion::~Completion() { wait_and_drop_error(std::move(state_)); }

void Completion::wait() {
  if (const auto state = std::exchange(state_, nullptr)) state->wait();
}

}  // namespace spillway::offload
