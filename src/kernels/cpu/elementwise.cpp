// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/elementwise.hpp"

#include <cstring>

#include "kernels/cpu/dropout.hpp"
#include "kernels/cpu/instruction_set.hpp"
#include "kernels/cpu/lanes.hpp"
#include "kernels/cpu/rows.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr std::int64_t kBlock = 65536;

/// to = (base, if it is given) + dropout(branch), rows [begin, end).
template <typename From, typename To>
[[gnu::always_inline]] inline void add_dropped(const Dropout& settings, const PackedSequences& sequences,
                                               const To* base, const ConstTensorView& branch, To* to,
                                               std::int64_t begin, std::int64_t end) {
  const std::int64_t width = branch.extent(1);
  RowDropout dropout(settings, sequences, width);
  for (std::int64_t row = begin; row < end; ++row) {
    const From* from = elements<From>(branch) + row * width;
    dropout.start_row(row);
    for (std::int64_t chunk = 0; chunk < width; chunk += kDropoutChunk) {
      const float* factors = dropout.factors(chunk);
      const std::int64_t chunk_end = std::min(width, chunk + kDropoutChunk);
      for (std::int64_t c = chunk; c < chunk_end; c += kLanes) {
        Lanes value = load(from + c, width - c) * load(factors + (c - chunk));
        if (base != nullptr) value = load(base + row * width + c, width - c) + value;
        store(to + row * width + c, value, width - c);
      }
    }
  }
}

template <typename T>
[[gnu::always_inline]] inline void add_range(const T* from, float* to, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; i += kLanes)
    store(to + i, load(to + i, end - i) + load(from + i, end - i), end - i);
}

template <typename From, typename To>
[[gnu::always_inline]] inline void convert_range(const From* from, To* to, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; i += kLanes) store(to + i, load(from + i, end - i), end - i);
}

}  // namespace

void residual_add(ThreadPool& pool, const ResidualAdd& op) {
  visit_storage(op.branch.dtype(), [&]<typename T>(std::type_identity<T>) {
    parallel_rows(pool, op.branch.extent(0), op.branch.extent(1), [&](std::int64_t begin, std::int64_t end) {
      vectorised<add_dropped<T, float>>(op.dropout, op.sequences, floats(op.hidden_in), op.branch,
                                        floats(op.hidden_out), begin, end);
    });
  });
}

void residual_add_gradient(ThreadPool& pool, const ResidualAddGradient& op) {
  visit_storage(op.d_branch.dtype(), [&]<typename T>(std::type_identity<T>) {
    parallel_rows(pool, op.d_hidden.extent(0), op.d_hidden.extent(1), [&](std::int64_t begin, std::int64_t end) {
      const T* no_base = nullptr;
      vectorised<add_dropped<float, T>>(op.dropout, op.sequences, no_base, op.d_hidden, elements<T>(op.d_branch), begin,
                                        end);
    });
  });
}

void fill_zero(ThreadPool& pool, const TensorView& tensor) {
  parallel_blocks(pool, static_cast<std::int64_t>(tensor.bytes()), 4 * kBlock,
                  [&](std::int64_t begin, std::int64_t end) {
                    std::memset(tensor.data() + begin, 0, static_cast<std::size_t>(end - begin));
                  });
}

void add(ThreadPool& pool, const ConstTensorView& from, const TensorView& to) {
  visit_storage(from.dtype(), [&]<typename T>(std::type_identity<T>) {
    parallel_blocks(pool, to.elements(), kBlock, [&](std::int64_t begin, std::int64_t end) {
      vectorised<add_range<T>>(elements<T>(from), floats(to), begin, end);
    });
  });
}

void convert(ThreadPool& pool, const ConstTensorView& from, const TensorView& to) {
  visit_storage(from.dtype(), [&]<typename From>(std::type_identity<From>) {
    visit_storage(to.dtype(), [&]<typename To>(std::type_identity<To>) {
      parallel_blocks(pool, to.elements(), kBlock, [&](std::int64_t begin, std::int64_t end) {
        vectorised<convert_range<From, To>>(elements<From>(from), elements<To>(to), begin, end);
      });
    });
  });
}

}  // namespace spillway::kernels::cpu
