// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/gemm.hpp"
#include "kernels/cpu/instruction_set.hpp"

namespace spillway::kernels::cpu {

/// Rows from which on BLAS, which packs the whole of b for every call, is as fast.
inline constexpr std::int64_t kFewRows = 128;

/// Whether few_rows_gemm makes the product: a not transposed and of at most kFewRows rows, b transposed (the weights of a linear
/// layer), and a processor with fma. By the shape alone, so that a product made again has the same bits.
[[nodiscard]] bool has_few_rows(const Gemm& product) noexcept;

/// The product of a few rows with rows of weights that are streamed once and never packed: one step of a decoder. An element is
/// alpha · (a chain of fma over k in ascending order) + beta · c, whatever the threads, the other rows and the instruction set.
/// \param set  avx2 or avx512
void few_rows_gemm(ThreadPool& pool, const Gemm& product, InstructionSet set = widest_instruction_set());

/// What a calling thread keeps for a of up to `widest` columns: for the ledger.
[[nodiscard]] std::size_t few_rows_workspace_bytes(std::int64_t widest) noexcept;

}  // namespace spillway::kernels::cpu
