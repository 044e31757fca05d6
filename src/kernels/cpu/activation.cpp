// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/activation.hpp"

#include "kernels/cpu/activation_functions.hpp"
#include "kernels/cpu/dropout.hpp"
#include "kernels/cpu/instruction_set.hpp"
#include "kernels/cpu/lanes.hpp"
#include "kernels/cpu/rows.hpp"

namespace spillway::kernels::cpu {
namespace {

template <typename Function>
[[gnu::always_inline]] inline void activate(const Activation& op, std::int64_t begin, std::int64_t end) {
  const std::int64_t width = op.out.extent(1);
  const std::int64_t u_width = op.u.extent(1);
  RowDropout dropout(op.dropout, op.sequences, width);
  for (std::int64_t row = begin; row < end; ++row) {
    const float* u = floats(op.u) + row * u_width;
    float* out = floats(op.out) + row * width;
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

template <typename Function>
[[gnu::always_inline]] inline void activate_gradient(const ActivationGradient& op, std::int64_t begin,
                                                     std::int64_t end) {
  const std::int64_t width = op.d_out.extent(1);
  const std::int64_t u_width = op.u.extent(1);
  RowDropout dropout(op.dropout, op.sequences, width);
  for (std::int64_t row = begin; row < end; ++row) {
    const float* u = floats(op.u) + row * u_width;
    const float* d_out = floats(op.d_out) + row * width;
    float* du = floats(op.du) + row * u_width;
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

/// Calls `body` with an object of the kind's function.
template <typename Body>
void with_function(ActivationKind kind, const Body& body) {
  switch (kind) {
    case ActivationKind::relu: return body(Relu{});
    case ActivationKind::relu_squared: return body(ReluSquared{});
    case ActivationKind::gelu: return body(Gelu{});
    case ActivationKind::gelu_new: return body(GeluNew{});
    case ActivationKind::quick_gelu: return body(QuickGelu{});
    case ActivationKind::silu: return body(Silu{});
    case ActivationKind::sigmoid: return body(Sigmoid{});
    case ActivationKind::tanh: return body(Tanh{});
    case ActivationKind::mish: return body(Mish{});
  }
}

}  // namespace

void activation(ThreadPool& pool, const Activation& op) {
  parallel_rows(pool, op.u.extent(0), op.u.extent(1), [&](std::int64_t begin, std::int64_t end) {
    with_function(op.kind, [&]<typename Function>(Function) { vectorised<activate<Function>>(op, begin, end); });
  });
}

void activation_gradient(ThreadPool& pool, const ActivationGradient& op) {
  parallel_rows(pool, op.u.extent(0), op.u.extent(1), [&](std::int64_t begin, std::int64_t end) {
    with_function(op.kind,
                  [&]<typename Function>(Function) { vectorised<activate_gradient<Function>>(op, begin, end); });
  });
}

}  // namespace spillway::kernels::cpu
