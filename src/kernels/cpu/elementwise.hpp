// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/thread_pool.hpp"
#include "kernels/model_ops.hpp"

namespace spillway::kernels::cpu {

void residual_add(ThreadPool& pool, const ResidualAdd& op);
void residual_add_gradient(ThreadPool& pool, const ResidualAddGradient& op);
/// Zero bytes, of any dtype.
void fill_zero(ThreadPool& pool, const TensorView& tensor);
void add(ThreadPool& pool, const ConstTensorView& from, const TensorView& to);
void convert(ThreadPool& pool, const ConstTensorView& from, const TensorView& to);

}  // namespace spillway::kernels::cpu
