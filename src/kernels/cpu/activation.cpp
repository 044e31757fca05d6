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

/// Of rows of out that have been written.
template <typename T>
void write_mask(const Activation& op, std::int64_t begin, std::int64_t end) {
  const std::int64_t width = op.out.extent(1);
  const T* out = elements<T>(op.out);
  auto* mask = elements<std::uint8_t>(op.mask);
  for (std::int64_t byte = begin * width / 8; byte < end * width / 8; ++byte) {
    unsigned bits = 0;
    for (std::int64_t i = 0; i < 8; ++i) bits |= static_cast<unsigned>(as_float(out[byte * 8 + i]) != 0.0F) << i;
    mask[byte] = static_cast<std::uint8_t>(bits);
  }
}

/// Of a relu by its mask. The rows lie end to end.
template <typename T>
[[gnu::always_inline]] inline void masked_gradient(const ActivationGradient& op, std::int64_t begin, std::int64_t end) {
  const std::int64_t width = op.d_out.extent(1);
  const float scale = op.dropout.scale();
  const auto* mask = elements<std::uint8_t>(op.mask);
  const T* d_out = elements<T>(op.d_out);
  T* du = elements<T>(op.du);
  for (std::int64_t c = begin * width; c < end * width; c += kLanes) {
    const std::int64_t count = end * width - c;
    float factors[kLanes] = {};
    for (std::int64_t i = 0; i < kLanes && i < count; ++i)
      factors[i] = (mask[(c + i) / 8] >> ((c + i) % 8) & 1) != 0 ? scale : 0.0F;
    store(du + c, load(d_out + c, count) * load(factors), count);
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
    parallel_rows(pool, op.u.extent(0), op.u.extent(1), [&](std::int64_t begin, std::int64_t end) {
      vectorised<activate<Function, T>>(op, begin, end);
      if (op.mask) write_mask<T>(op, begin, end);
    });
  });
}

void activation_gradient(ThreadPool& pool, const ActivationGradient& op) {
  if (op.mask) {
    return visit_storage(op.d_out.dtype(), [&]<typename T>(std::type_identity<T>) {
      parallel_rows(pool, op.d_out.extent(0), op.d_out.extent(1),
                    [&](std::int64_t begin, std::int64_t end) { vectorised<masked_gradient<T>>(op, begin, end); });
    });
  }
  visit_function(op.kind, op.u.dtype(), [&]<typename Function, typename T>(Function, std::type_identity<T>) {
    parallel_rows(pool, op.u.extent(0), op.u.extent(1), [&](std::int64_t begin, std::int64_t end) {
      vectorised<activate_gradient<Function, T>>(op, begin, end);
    });
  });
}

}  // namespace spillway::kernels::cpu
