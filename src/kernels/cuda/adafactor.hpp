// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include <cuda_runtime_api.h>

#include "kernels/adafactor_ops.hpp"
#include "kernels/cuda/workspace.hpp"

namespace spillway::kernels::cuda {

/// The ops of the same names; views are the caller's care. The bits are those of the CPU form.
/// \param partial_sums  of the GPU, any number from 1; kAdafactorPartialSums are enough for the best speed. Used in the stream's order.
void adafactor_sums(cudaStream_t stream, const AdafactorSums& op, std::span<double> partial_sums);
void adafactor_update_sum(cudaStream_t stream, const AdafactorUpdateSum& op, std::span<double> partial_sums);
void adafactor_factors(cudaStream_t stream, const AdafactorFactors& op, std::span<double> partial_sums);
void adafactor_second_moment(cudaStream_t stream, const AdafactorSecondMoment& op);
void adafactor_step(cudaStream_t stream, const AdafactorStep& op);

}  // namespace spillway::kernels::cuda
