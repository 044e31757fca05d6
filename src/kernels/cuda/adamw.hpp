// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/state_codes.hpp"
#include "kernels/optimizer_ops.hpp"

namespace spillway::kernels::cuda {

/// The op of the same name; views are the caller's care. The bits are those of the CPU form.
void adamw(cudaStream_t stream, const AdamWStep& step, const StateCodeTables* codes);

}  // namespace spillway::kernels::cuda
