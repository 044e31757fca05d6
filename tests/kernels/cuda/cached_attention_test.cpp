// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cached_attention.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/cpu/cached_attention.hpp"
#include "kernels/cuda/generation_fixture.hpp"
#include "kernels/state_fixtures.hpp"
#include "kernels/vector_views.hpp"

namespace spillway::kernels::cuda {
namespace {

using test::GenerationOnGpu;
using test::normals;
using test::view;
using test::writable;

std::vector<std::uint16_t> in_f16(const std::vector<float>& values) {
  std::vector<std::uint16_t> halves;
  for (const float value : values) halves.push_back(f16_from_float(value));
  return halves;
}
std::vector<float> widened(const std::vector<std::uint16_t>& halves) {
  std::vector<float> values;
  for (const std::uint16_t half : halves) values.push_back(float_from_f16(half));
  return values;
}
ConstTensorView f16(const std::vector<std::uint16_t>& halves, const Shape& shape) {
  return {reinterpret_cast<const std::byte*>(halves.data()), DType::f16, shape};
}

/// The same numbers in the storage type.
template <typename T>
std::vector<T> stored(const std::vector<float>& values) {
  if constexpr (std::is_same_v<T, float>) {
    return values;
  } else {
    std::vector<T> halves;
    for (const float value : values) halves.push_back({bf16_from_float(value)});
    return halves;
  }
}

/// Within 1e-5, or in bf16 within a rounding.
template <typename T>
void expect_near(const std::vector<T>& found, const std::vector<T>& expected, const std::string& what) {
  for (std::size_t i = 0; i < found.size(); ++i) {
    if constexpr (std::is_same_v<T, float>) {
      ASSERT_NEAR(found[i], expected[i], 1e-5F) << what << " " << i;
    } else {
      const float wanted = float_from_bf16(expected[i].bits);
      ASSERT_NEAR(float_from_bf16(found[i].bits), wanted, std::max(1e-3F, std::abs(wanted) / 127)) << what << " " << i;
    }
  }
}

template <typename T>
class CachedAttentionOnGpu : public GenerationOnGpu {};
using Stored = testing::Types<float, BFloat16>;
TYPED_TEST_SUITE(CachedAttentionOnGpu, Stored);

TYPED_TEST(CachedAttentionOnGpu, SelfAttention_IsTheCpus) {
  using T = TypeParam;
  cpu::ThreadPool pool(2);
  struct Size {
    std::int64_t heads, head_size, at, pad;  // pad: elements between the queries of two rows
  };
  for (const auto& [heads, head_size, at, pad] :
       {Size{1, 1, 0, 3}, Size{3, 12, 16, 3}, Size{2, 64, 700, 3}, Size{2, 20, 70, 3}, Size{2, 64, 700, 8},
        Size{3, 64, 0, 0}, Size{2, 64, 127, 16}, Size{2, 128, 45, 8}, Size{1, 32, 5, 8}, Size{1, 256, 131, 0},
        // Enough heads for a warp each; of the last two, rows have most tokens in common.
        Size{211, 64, 40, 8}, Size{208, 128, 16, 0}, Size{205, 64, 0, 0}, Size{205, 64, 148, 0},
        Size{205, 128, 78, 8}}) {
    const std::int64_t rows = 5, capacity = at + 2, width = heads * head_size;
    const Shape cache{rows, capacity, width};
    const auto elements = static_cast<std::size_t>(rows * capacity * width);
    const std::vector<T> q = stored<T>(normals(static_cast<std::size_t>(rows * (width + pad)), 1));
    std::vector<T> k = stored<T>(normals(elements, 2)), v = stored<T>(normals(elements, 3));
    std::vector<T> k_found = k, v_found = v;
    const std::vector<T> new_k = stored<T>(normals(q.size(), 5)), new_v = stored<T>(normals(q.size(), 6));
    const std::vector<T> table = stored<T>(normals(static_cast<std::size_t>(32 * heads), 4));
    const std::vector<std::int32_t> position = {static_cast<std::int32_t>(at)};
    std::vector<std::int32_t> ancestry(static_cast<std::size_t>(rows * capacity));
    for (std::size_t i = 0; i < ancestry.size(); ++i) ancestry[i] = static_cast<std::int32_t>((i * 7 + i / 11) % 5);
    std::vector<T> expected(static_cast<std::size_t>(rows * width)), found(expected.size());
    CachedSelfAttention op{.rows = rows,
                           .capacity = capacity,
                           .heads = heads,
                           .head_size = head_size,
                           .position = view(position, {1}),
                           .q = view(q, {rows, width + pad}),
                           .k = view(new_k, {rows, width + pad}),
                           .v = view(new_v, {rows, width + pad}),
                           .stride = width + pad,
                           .cache_k = writable(k, cache),
                           .cache_v = writable(v, cache),
                           .ancestry = view(ancestry, {rows, capacity}),
                           .bias = {.table = view(table, {32, heads}), .bidirectional = false, .max_distance = 128},
                           .out = writable(expected, {rows, width})};
    cpu::cached_self_attention(pool, op);
    op.position = this->on_gpu(op.position);
    op.q = this->on_gpu(op.q);
    op.k = this->on_gpu(op.k);
    op.v = this->on_gpu(op.v);
    op.cache_k = this->on_gpu(writable(k_found, cache));
    op.cache_v = this->on_gpu(writable(v_found, cache));
    op.ancestry = this->on_gpu(op.ancestry);
    op.bias.table = this->on_gpu(op.bias.table);
    op.out = this->on_gpu(writable(found, {rows, width}));

    cached_self_attention(this->stream_, op);

    this->collect();
    expect_near(found, expected, "head size " + std::to_string(head_size));
    EXPECT_EQ(k_found, k);
    EXPECT_EQ(v_found, v);
  }
}

TYPED_TEST(CachedAttentionOnGpu, CrossAttention_IsTheCpus_HoweverManyRowsShareASequence) {
  using T = TypeParam;
  cpu::ThreadPool pool(2);
  const std::vector<std::int32_t> offsets = {0, 1, 38, 166};
  for (const std::int64_t head_size : {12, 32, 64, 128, 256})
    for (const std::int64_t beams : {1, 2, 3, 4, 6}) {
      const std::int64_t heads = head_size == 64 && beams >= 4 ? 350 : 3;  // of the former enough for a warp each
      const std::int64_t width = heads * head_size, rows = 3 * beams, keys = offsets.back();
      const std::vector<T> q = stored<T>(normals(static_cast<std::size_t>(rows * width), 1));
      const std::vector<T> kv = stored<T>(normals(static_cast<std::size_t>(keys * 2 * width), 2));
      std::vector<std::int32_t> sequences;
      for (std::int64_t row = 0; row < rows; ++row) sequences.push_back(static_cast<std::int32_t>(row / beams));
      std::vector<T> expected(q.size()), found(q.size());
      const auto op = [&](const ConstTensorView& packed, const TensorView& out) {
        return CachedCrossAttention{
            .keys = {.offsets = view(offsets, {4}),
                     .row_sample = {},
                     .row_position = {},
                     .count = 3,
                     .rows = keys,
                     .longest = 128},
            .rows = rows,
            .heads = heads,
            .head_size = head_size,
            .q = view(q, {rows, width}),
            .k = packed,
            .v = {packed.data() + static_cast<std::size_t>(width) * sizeof(T), packed.dtype(), packed.shape()},
            .row_sequence = view(sequences, {rows}),
            .k_stride = 2 * width,
            .v_stride = 2 * width,
            .out = out};
      };
      cpu::cached_cross_attention(pool, op(view(kv, {keys, 2 * width}), writable(expected, {rows, width})));
      CachedCrossAttention on_gpu =
          op(this->on_gpu(view(kv, {keys, 2 * width})), this->on_gpu(writable(found, {rows, width})));
      on_gpu.keys.offsets = this->on_gpu(on_gpu.keys.offsets);
      on_gpu.q = this->on_gpu(on_gpu.q);
      on_gpu.row_sequence = this->on_gpu(on_gpu.row_sequence);

      cached_cross_attention(this->stream_, on_gpu);

      this->collect();
      expect_near(found, expected, std::to_string(head_size) + " of " + std::to_string(beams) + " beams");
    }
}

TEST_F(GenerationOnGpu, CachedCrossAttention_InF16_IsTheCpusF32OfTheSameNumbers_RoundedOnce) {
  cpu::ThreadPool pool(2);
  const std::vector<std::int32_t> offsets = {0, 1, 38, 166}, sequences = {0, 0, 1, 1, 2, 2};
  for (const std::int64_t head_size : {12, 64, 128}) {
    const std::int64_t heads = 3, width = heads * head_size, rows = 6, keys = offsets.back();
    const auto q = in_f16(normals(static_cast<std::size_t>(rows * width), 1));
    const auto k = in_f16(normals(static_cast<std::size_t>(keys * width), 2));
    const auto v = in_f16(normals(static_cast<std::size_t>(keys * width), 3));
    const auto wide_q = widened(q), wide_k = widened(k), wide_v = widened(v);
    std::vector<float> expected(q.size());
    std::vector<std::uint16_t> found(q.size(), 0x7e00);
    CachedCrossAttention op{.keys = {.offsets = view(offsets, {4}),
                                     .row_sample = {},
                                     .row_position = {},
                                     .count = 3,
                                     .rows = keys,
                                     .longest = 128},
                            .rows = rows,
                            .heads = heads,
                            .head_size = head_size,
                            .q = view(wide_q, {rows, width}),
                            .k = view(wide_k, {keys, width}),
                            .v = view(wide_v, {keys, width}),
                            .row_sequence = view(sequences, {rows}),
                            .k_stride = width,
                            .v_stride = width,
                            .out = writable(expected, {rows, width})};
    cpu::cached_cross_attention(pool, op);
    op.keys.offsets = on_gpu(op.keys.offsets);
    op.q = on_gpu(f16(q, {rows, width}));
    op.k = on_gpu(f16(k, {keys, width}));
    op.v = on_gpu(f16(v, {keys, width}));
    op.row_sequence = on_gpu(op.row_sequence);
    op.out = on_gpu(TensorView(reinterpret_cast<std::byte*>(found.data()), DType::f16, {rows, width}));

    cached_cross_attention(stream_, op);

    collect();
    for (std::size_t i = 0; i < found.size(); ++i)
      ASSERT_NEAR(float_from_f16(found[i]), expected[i], 1e-5F + std::abs(expected[i]) / 2000.0F)
          << head_size << " " << i;
  }
}

}  // namespace
}  // namespace spillway::kernels::cuda
