// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/activation.hpp"

#include "kernels/cpu/activation_functions.hpp"
#include "kernels/cpu/dropout.hpp"
#include "kernels/cpu/instruction_set.hpp"
#include "kernels/cpu/lanes.hpp"
#include "kernels/cpu/rows.hpp"

namespace spillway::kernels::cpu {
namespace {

template <typename Function, typename T>
[[gnu::always_inline]] inline void activate(const Activation& op, std::int64_t begin, std::int64_t end) {
  const std::int64_t width = op.out.extent(1);
  const std::int64_t u_width = op.u.extent(1);
  RowDropout dropout(op.dropout, op.sequences, width);
  for (std::int64_t row = begin; row < end; ++row) {
    const T* u = elements<T>(op.u) + row * u_width;
    T* out = elements<T>(op.out) + row * width;
    dropout.start_row(row);
    for (std::int64_t chunk = 0; chunk < width; chunk += kDropoutChunk) {
      const float* factors = dropout.factors(chunk);
      const std::int64_t chunk_end = std::min(width, chunk + kDropoutChunk);
      for (std::int64_t c = chunk; c < chunk_end; c += kLanes) {
        Lanes value = value_of<Function>(load(u + c, width - c));
        if (op.gated) value = value * load(u + width + c, width - c);
        store(out + c, value * load(factors + (c - chunk)), width - c);
      }
    }
  }
}

template <typename Function, typename T>
[[gnu::always_inline]] inline void activate_gradient(const ActivationGradient& op, std::int64_t begin,
                                                     std::int64_t end) {
  const std::int64_t width = op.d_out.extent(1);
  const std::int64_t u_width = op.u.extent(1);
  RowDropout dropout(op.dropout, op.sequences, width);
  for (std::int64_t row = begin; row < end; ++row) {
    const T* u = elements<T>(op.u) + row * u_width;
    const T* d_out = elements<T>(op.d_out) + row * width;
    T* du = elements<T>(op.du) + row * u_width;
    dropout.start_row(row);
    for (std::int64_t chunk = 0; chunk < width; chunk += kDropoutChunk) {
      const float* factors = dropout.factors(chunk);
      const std::int64_t chunk_end = std::min(width, chunk + kDropoutChunk);
      for (std::int64_t c = chunk; c < chunk_end; c += kLanes) {
        // Everything of u is read before du, which may be the same memory, is written.
        const std::int64_t count = width - c;
        const Lanes d = load(d_out + c, count) * load(factors + (c - chunk));
        const Lanes x = load(u + c, count);
        if (op.gated) {
          const Lanes gate = load(u + width + c, count);
          store(du + c, d * gate * slope_of<Function>(x), count);
          store(du + width + c, d * value_of<Function>(x), count);
        } else {
          store(du + c, d * slope_of<Function>(x), count);
        }
      }
    }
  }
}

/// Calls task(Function(), std::type_identity<T>()).
template <typename Task>
void visit_function(ActivationKind kind, DType dtype, const Task& task) {
  visit_storage(dtype, [&](auto storage) {
    switch (kind) {
      case ActivationKind::relu: return task(Relu(), storage);
      case ActivationKind::relu_squared: return task(ReluSquared(), storage);
      case ActivationKind::gelu: return task(Gelu(), storage);
      case ActivationKind::gelu_new: return task(GeluNew(), storage);
      case ActivationKind::quick_gelu: return task(QuickGelu(), storage);
      case ActivationKind::silu: return task(Silu(), storage);
      case ActivationKind::sigmoid: return task(Sigmoid(), storage);
      case ActivationKind::tanh: return task(Tanh(), storage);
      case ActivationKind::mish: return task(Mish(), storage);
    }
  });
}

}  // namespace

void activation(ThreadPool& pool, const Activation& op) {
  visit_function(op.kind, op.u.dtype(), [&]<typename Function, typename T>(Function, std::type_identity<T>) {
    parallel_rows(pool, op.u.extent(0), op.u.extent(1),
                  [&](std::int64_t begin, std::int64_t end) { vectorised<activate<Function, T>>(op, begin, end); });
  });
}

void activation_gradient(ThreadPool& pool, const ActivationGradient& op) {
  visit_function(op.kind, op.u.dtype(), [&]<typename Function, typename T>(Function, std::type_identity<T>) {
    parallel_rows(pool, op.u.extent(0), op.u.extent(1), [&](std::int64_t begin, std::int64_t end) {
      vectorised<activate_gradient<Function, T>>(op, begin, end);
    });
  });
}

}  // namespace spillway::kernels::cpu
