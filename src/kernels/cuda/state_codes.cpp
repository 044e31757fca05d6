// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/state_codes.hpp"

#include <algorithm>

#include "core/cuda/check.hpp"

namespace spillway::kernels::cuda {
namespace {

StateCodes narrowed(const DynamicCodes& codes) {
  StateCodes result{.map = codes.map,
                    .above = codes.above,
                    .zero = codes.zero,
                    .largest_negative = codes.largest_negative,
                    .first = {}};
  std::ranges::transform(codes.first, result.first.begin(),
                         [](std::int32_t magnitude) { return static_cast<std::uint8_t>(magnitude); });
  return result;
}

}  // namespace

const StateCodeTables* upload_state_codes(cudaStream_t stream, std::byte* to) {
  const StateCodeTables tables{narrowed(dynamic_codes(StateSign::either)),
                               narrowed(dynamic_codes(StateSign::nonnegative))};
  spillway::cuda::check(cudaMemcpyAsync(to, &tables, sizeof tables, cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync");
  spillway::cuda::check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  return reinterpret_cast<const StateCodeTables*>(to);
}

}  // namespace spillway::kernels::cuda
