// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "train/trainee.hpp"

namespace spillway::test {

/// Texts of more than 2,048 bytes, so that every sequence has as many tokens, and the model of write_training_folder().
void write_long_texts(const std::string& folder);

/// Two steps of two micro-batches of such a text, in bf16. \param replan  as Trainee's
/// \return the hashes of all state. With `gpu` it trains there instead of on the host.
[[nodiscard]] StateHashes train_long(const std::string& folder, train::GradientCheckpointing checkpointing,
                                     const std::function<void(train::Job&)>& replan = {}, Device* gpu = nullptr);

}  // namespace spillway::test
