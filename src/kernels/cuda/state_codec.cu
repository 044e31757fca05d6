// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/check.hpp"
#include "kernels/cuda/state_codec.hpp"
#include "kernels/cuda/state_format.cuh"

namespace spillway::kernels::cuda {
namespace {

template <typename From>
__global__ void __launch_bounds__(32 * kEightWarps) decode(From from, float* values, std::int64_t elements) {
  const Eight at = Eight::mine(0, elements);
  float read[kEach];
  from.read(at, read);
  store(values, at, read);
}

__global__ void __launch_bounds__(32 * kEightWarps)
    encode_parameters(const float* values, Parameters parameters, std::int64_t elements) {
  const Eight at = Eight::mine(0, elements);
  float read[kEach];
  load(values, at, read);
  parameters.write(at, read);
}

__global__ void __launch_bounds__(32 * kEightWarps)
    encode_states(const float* values, StateNumbers state, StochasticRounding rounding, UnitPlace place,
                  std::int64_t elements) {
  __shared__ WarpDraws draws[kEightWarps];
  const Eight at = Eight::mine(place.offset, elements);
  float read[kEach];
  load(values, at, read);
  state.write(at, read, rounding, place.warp_first(at), draws[threadIdx.x / 32]);
}

float* floats(const TensorView& view) { return reinterpret_cast<float*>(view.data()); }
const float* floats(const ConstTensorView& view) { return reinterpret_cast<const float*>(view.data()); }

}  // namespace

void decode_parameter(cudaStream_t stream, const DecodeParameter& op) {
  const std::int64_t elements = op.values.elements();
  if (elements == 0) return;
  decode<<<eight_blocks(0, elements), 32 * kEightWarps, 0, stream>>>(Parameters::of(op.parameter), floats(op.values),
                                                                     elements);
  spillway::cuda::check(cudaGetLastError(), "decode_parameter");
}

void encode_parameter(cudaStream_t stream, const EncodeParameter& op) {
  const std::int64_t elements = op.values.elements();
  if (elements == 0) return;
  encode_parameters<<<eight_blocks(0, elements), 32 * kEightWarps, 0, stream>>>(floats(op.values),
                                                                                Parameters::of(op.parameter), elements);
  spillway::cuda::check(cudaGetLastError(), "encode_parameter");
}

void decode_state(cudaStream_t stream, const DecodeState& op, const StateCodeTables* codes) {
  const std::int64_t elements = op.values.elements();
  if (elements == 0) return;
  decode<<<eight_blocks(0, elements), 32 * kEightWarps, 0, stream>>>(StateNumbers::of(op.state, codes, op.sign),
                                                                     floats(op.values), elements);
  spillway::cuda::check(cudaGetLastError(), "decode_state");
}

void encode_state(cudaStream_t stream, const EncodeState& op, const StateCodeTables* codes) {
  const std::int64_t elements = op.values.elements();
  if (elements == 0) return;
  const UnitPlace place = UnitPlace::of(op.rounding, op.state.values.dtype() == DType::bf16);
  encode_states<<<eight_blocks(place.offset, elements), 32 * kEightWarps, 0, stream>>>(
      floats(op.values), StateNumbers::of(op.state, codes, op.sign), op.rounding, place, elements);
  spillway::cuda::check(cudaGetLastError(), "encode_state");
}

}  // namespace spillway::kernels::cuda
