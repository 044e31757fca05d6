// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/log_softmax.hpp"

namespace spillway::kernels::cuda {

/// The op of the same name; shapes are the caller's care. Two runs give the same. A NaN counts as -infinity, so that every token is one
/// of the vocabulary's even where `failure` is reported.
/// \param workspace  of the GPU, top_continuations_workspace_bytes(), on a boundary of 8 bytes
/// \param failure    as log_softmax() has it
void top_continuations(cudaStream_t stream, const TopContinuations& op, std::byte* workspace, NoDistribution* failure);

}  // namespace spillway::kernels::cuda
