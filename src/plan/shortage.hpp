// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "plan/facts.hpp"
#include "plan/ledger.hpp"

namespace spillway::plan {

/// Which tier is short and by how much, or nothing: the ledger fits.
/// \param one_memory  device entries are host memory too
[[nodiscard]] std::string shortage(const Ledger& ledger, const Budgets& budgets, bool one_memory);

/// For a job that does not fit: how much of each tier alone would do, as the keys of [memory] that say so; nothing where more of one
/// tier alone does not help. \param fits  of other budgets
[[nodiscard]] std::string budgets_that_fit(const Budgets& budgets, bool one_memory,
                                           const std::function<bool(const Budgets&)>& fits);

}  // namespace spillway::plan
