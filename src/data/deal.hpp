// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace spillway::data {

/// Deals the samples of a global batch to ranks and micro-batches so that they carry equal work: sorted by length, the
/// longest first (equal lengths stay in order), and dealt in snake order over ranks x micro_batches slots.
///
/// Slots are walked as a snake as well: micro-batch 0 of ranks 0, 1, ..., R-1, then micro-batch 1 of ranks R-1, ..., 0,
/// and so on; when all slots have had a sample the walk turns round. So the ranks are given one sample each before any
/// is given a second, whatever the number of micro-batches, and no slot has more than ceil(n / slots) samples. With
/// few samples slots stay empty: a legal deal.
/// \param lengths  of every sample of the global batch, in any unit of work
/// \return [rank][micro_batch] -> indices into `lengths`
/// \throws Error if ranks or micro_batches is below 1
[[nodiscard]] std::vector<std::vector<std::vector<std::int32_t>>> deal(std::span<const std::int64_t> lengths, int ranks,
                                                                       int micro_batches);

}  // namespace spillway::data
