// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/config_schema.hpp"
#include "app/key_bindings.hpp"

namespace spillway::app {

/// The interval in a value; nothing if it is none.
[[nodiscard]] std::optional<train::StepInterval> interval_in(const ConfigValue& value);
[[nodiscard]] std::string interval_text(const train::StepInterval& interval);

/// Bytes of one extent: a multiple of the largest alignment that a store asks for, 4 KiB.
[[nodiscard]] KeyBinding size(std::uint64_t train::OffloadOptions::*member);
/// "auto" (nothing) or bytes.
[[nodiscard]] KeyBinding budget(std::optional<std::uint64_t> train::MemoryOptions::*member);
/// train.per_device_train_batch_size: a number of samples, or "auto".
[[nodiscard]] KeyBinding micro_batch();
/// "3h50m"; "" is 0, where that is not less than `least`.
[[nodiscard]] KeyBinding duration(std::chrono::seconds train::TrainOptions::*member, std::chrono::seconds least = {});
/// A number of steps, or "epoch".
template <class Options>
[[nodiscard]] KeyBinding interval(Options train::RunOptions::*section, train::StepInterval Options::*member) {
  return bind_member("an integer of at least 0, or \"epoch\"", section, member, interval_in, interval_text);
}
/// optimizer.betas.
[[nodiscard]] KeyBinding betas();
/// offload.nvme_dirs: a list, or the only one as a string.
[[nodiscard]] KeyBinding folders();
/// data.train, val, test: a list of files, or the only one as a string; "" is none.
[[nodiscard]] KeyBinding data_files(std::vector<std::string> train::DataOptions::*member);

}  // namespace spillway::app
