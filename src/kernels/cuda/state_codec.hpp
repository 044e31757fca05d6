// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/state_codes.hpp"
#include "kernels/optimizer_state.hpp"

namespace spillway::kernels::cuda {

/// The ops of the same names; views are the caller's care. The bits are those of the CPU form.
void decode_parameter(cudaStream_t stream, const DecodeParameter& op);
void encode_parameter(cudaStream_t stream, const EncodeParameter& op);
void decode_state(cudaStream_t stream, const DecodeState& op, const StateCodeTables* codes);
void encode_state(cudaStream_t stream, const EncodeState& op, const StateCodeTables* codes);

}  // namespace spillway::kernels::cuda
