// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

#include "train/job.hpp"

namespace spillway::train {

/// What a run is about, by content and not by name: the model's function, the tokenizer, the training data. Files may move; these
/// must not change while a run goes on, and are the same on every rank.
using ContentRecord = std::map<std::string, std::string>;
[[nodiscard]] ContentRecord contents_of(const Job& job);

/// A line for each entry that both have and that differs: "\n  NAME: ONE has X, OTHER Y"; empty if none does.
[[nodiscard]] std::string differences(const ContentRecord& one, const std::string& one_name, const ContentRecord& other,
                                      const std::string& other_name);

}  // namespace spillway::train
