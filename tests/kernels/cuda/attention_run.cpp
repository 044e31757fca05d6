// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/attention_run.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "kernels/cpu/attention.hpp"
#include "kernels/cpu/thread_pool.hpp"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/attention_operands.hpp"
#include "kernels/float16.hpp"

namespace spillway::kernels::cuda::test {
namespace {

constexpr std::int64_t kWorkspaceGuard = 64;

template <typename T>
std::vector<T> dense(const std::vector<double>& values) {
  std::vector<T> result;
  for (const double value : values) result.push_back(stored<T>(static_cast<float>(value)));
  return result;
}

template <typename T>
std::vector<float> numbers(const std::vector<T>& values) {
  std::vector<float> result;
  for (const T value : values) result.push_back(number(value));
  return result;
}

}  // namespace

template <typename T>
AttentionOutcome run_attention(bool device, const AttentionReference& reference, const AttentionValues& values,
                               const std::vector<double>& d_outs, Rows rows) {
  const AttentionCase& shape = reference.shape;
  const std::int64_t width = reference.width();
  const std::int64_t stride = rows == Rows::dense ? width : rows == Rows::wide ? 3 * width + 8 : 3 * width + 5;
  const std::int64_t step = rows == Rows::dense ? 0 : width;
  Columns<T> q(values.q, width, stride, 0);
  Columns<T> k(values.k, width, stride, step);
  Columns<T> v(values.v, width, stride, 2 * step);
  const auto poisoned = [](std::size_t size) { return std::vector<double>(size, static_cast<double>(kNan)); };
  Columns<T> d_q(poisoned(values.q.size()), width, stride, 0);
  Columns<T> d_k(poisoned(values.k.size()), width, stride, step);
  Columns<T> d_v(poisoned(values.v.size()), width, stride, 2 * step);
  std::vector<T> table = dense<T>(values.table);
  std::vector<T> d_out = dense<T>(d_outs);
  std::vector<T> out(d_out.size(), stored<T>(kNan));
  std::vector<float> lse(static_cast<std::size_t>(reference.query_rows() * shape.heads), kNan);
  std::vector<float> d_bias(table.size(), 2.0F);

  Place place(device);
  const auto ids = [&](const std::vector<std::int32_t>& list) {
    return ConstTensorView(place.of(const_cast<std::vector<std::int32_t>&>(list)), DType::i32,
                           {static_cast<std::int64_t>(list.size())});
  };
  const auto longest = [](const std::vector<std::int32_t>& offsets) {
    std::int32_t most = 0;
    for (std::size_t s = 1; s < offsets.size(); ++s) most = std::max(most, offsets[s] - offsets[s - 1]);
    return static_cast<std::int64_t>(most);
  };
  const bool dropout = shape.dropout > 0.0F;
  const auto count = static_cast<std::int64_t>(shape.query_lengths.size());
  const Shape table_shape{reference.buckets, shape.heads};
  const auto table_view = shape.bias ? ConstTensorView(place.of(table), dtype_of<T>, table_shape) : ConstTensorView();
  const Attention op{
      .queries = {.offsets = ids(reference.query_offsets),
                  .row_sample = dropout ? ids(reference.row_sample) : ConstTensorView(),
                  .row_position = dropout ? ids(reference.row_position) : ConstTensorView(),
                  .count = count,
                  .rows = reference.query_rows(),
                  .longest = longest(reference.query_offsets)},
      .keys = {.offsets = ids(reference.key_offsets),
               .row_sample = {},
               .row_position = {},
               .count = count,
               .rows = reference.key_rows(),
               .longest = longest(reference.key_offsets)},
      .heads = shape.heads,
      .head_size = shape.head_size,
      .q = q.view(place),
      .k = k.view(place),
      .v = v.view(place),
      .q_stride = stride,
      .k_stride = stride,
      .v_stride = stride,
      .bias = {.table = table_view, .bidirectional = !shape.causal, .max_distance = reference.max_distance},
      .causal = shape.causal,
      .dropout = reference.dropout,
      .out = {place.of(out), dtype_of<T>, {reference.query_rows(), width}},
      .log_sum_exp = {place.of(lse), DType::f32, {reference.query_rows(), shape.heads}}};
  const AttentionGradient gradient{
      .forward = op,
      .d_out = {place.of(d_out), dtype_of<T>, {reference.query_rows(), width}},
      .d_q = d_q.view(place),
      .d_k = d_k.view(place),
      .d_v = d_v.view(place),
      .d_bias = shape.bias ? TensorView(place.of(d_bias), DType::f32, table_shape) : TensorView()};
  if (device) {
    const std::size_t bytes = attention_workspace_bytes(sizes_of(op));
    // NaN where the ops should write before they read, and a guard behind.
    std::vector<float> workspace(bytes / 4 + kWorkspaceGuard, kNan);
    std::byte* const memory = place.of(workspace);
    cudaStream_t stream = nullptr;
    expect_success(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    attention(stream, {memory, bytes}, op);
    expect_success(cudaMemsetAsync(memory, 0xFF, bytes, stream));
    attention_gradient(stream, {memory, bytes}, gradient);
    expect_success(cudaStreamSynchronize(stream));
    expect_success(cudaStreamDestroy(stream));
    place.fetch();
    for (std::size_t i = bytes / 4; i < workspace.size(); ++i)
      EXPECT_TRUE(std::isnan(workspace[i])) << "behind the workspace";
  } else if constexpr (!std::is_same_v<T, Float16>) {  // which the CPU has not got
    cpu::ThreadPool pool(2);
    cpu::attention(pool, op);
    cpu::attention_gradient(pool, gradient);
  }
  return {
      .out = numbers(out), .lse = lse, .d_q = d_q.dense(), .d_k = d_k.dense(), .d_v = d_v.dense(), .d_bias = d_bias};
}

template AttentionOutcome run_attention<float>(bool, const AttentionReference&, const AttentionValues&,
                                               const std::vector<double>&, Rows);
template AttentionOutcome run_attention<BFloat16>(bool, const AttentionReference&, const AttentionValues&,
                                                  const std::vector<double>&, Rows);
template AttentionOutcome run_attention<Float16>(bool, const AttentionReference&, const AttentionValues&,
                                                 const std::vector<double>&, Rows);

}  // namespace spillway::kernels::cuda::test
