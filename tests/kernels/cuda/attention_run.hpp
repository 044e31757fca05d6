// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "kernels/attention_reference.hpp"

namespace spillway::kernels::cuda::test {

/// What an attention op and its gradient wrote, widened to f32.
struct AttentionOutcome {
  std::vector<float> out, lse, d_q, d_k, d_v, d_bias;
  friend bool operator==(const AttentionOutcome&, const AttentionOutcome&) = default;
};

/// How wide the rows are around the columns of q, k and v.
enum class Rows { dense, wide, odd };

/// Runs attention and its gradient in T (float, BFloat16, Float16) on the current CUDA device, or on the CPU, which has no Float16.
/// Results, and the device's workspace, are NaN before; what is beside or behind them must be so afterwards.
/// \param d_outs  rounded by the caller where T does not round it
template <typename T>
AttentionOutcome run_attention(bool device, const AttentionReference& reference, const AttentionValues& values,
                               const std::vector<double>& d_outs, Rows rows);

/// The same with the reference's own d_out.
template <typename T>
AttentionOutcome run_attention(bool device, const AttentionReference& reference, const AttentionValues& values,
                               Rows rows) {
  return run_attention<T>(device, reference, values, reference.example_d_out(), rows);
}

}  // namespace spillway::kernels::cuda::test
