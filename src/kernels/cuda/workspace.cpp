// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/workspace.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "core/error.hpp"
#include "core/round_up.hpp"
#include "kernels/cuda/attention_workspace.hpp"
#include "kernels/cuda/cuda_kernels.hpp"

namespace spillway::kernels::cuda {

void require_workspace(const char* op, std::size_t needed, std::size_t found) {
  if (found < needed) throw Error(fmt::format("{} needs a workspace of {} bytes, not of {}", op, needed, found));
}

std::size_t residual_norm_workspace_bytes(std::int64_t width) noexcept {
  return static_cast<std::size_t>(kNormBlocks * width) * sizeof(float);
}

std::size_t sort_part_bytes(std::int64_t rows) noexcept {
  return round_up(static_cast<std::size_t>(rows) * sizeof(std::int32_t), 256);
}

std::size_t embedding_workspace_bytes(std::int64_t rows) noexcept {
  // The sort's own counters: 1 KiB for each of its tiles of at least 2 Ki rows, and a few histograms. Asked for is several times that.
  constexpr std::size_t kSortBytes = std::size_t{256} << 10;
  return 5 * sort_part_bytes(rows) + kSortBytes;
}

std::size_t model_ops_workspace_bytes(const ModelOpsSizes& sizes) noexcept {
  return std::max({residual_norm_workspace_bytes(sizes.width), embedding_workspace_bytes(sizes.rows),
                   attention_workspace_bytes(sizes.attention), kProductBytes + kPieceBytes});
}

std::size_t optimizer_workspace_bytes() noexcept { return kTableBytes + kAdafactorPartialSums * sizeof(double); }

std::size_t top_continuations_workspace_bytes(std::int64_t items, std::int64_t beams, std::int64_t count) noexcept {
  const auto parts = static_cast<std::size_t>(items * beams * kRowParts);
  return parts * (sizeof(PartSum) + static_cast<std::size_t>(count) * sizeof(Candidate));
}

std::size_t generation_workspace_bytes(std::int64_t items, std::int64_t beams, std::int64_t count) noexcept {
  return top_continuations_workspace_bytes(items, beams, count);
}

std::size_t generation_pinned_bytes() noexcept { return sizeof(NoDistribution); }

}  // namespace spillway::kernels::cuda
