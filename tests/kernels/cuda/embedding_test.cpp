// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/embedding.hpp"

#include "kernels/cuda/cuda_fixture.hpp"
#include "kernels/cuda/workspace.hpp"

namespace spillway::kernels::cuda {
namespace {

using test::OnDevice;
using test::OnHost;
using test::Twin;
using test::TwinBatch;

struct Case {
  DType dtype;  // of the table
  std::int64_t rows, vocabulary, width;
  float probability;
};

/// A few ids often, others once or never: the last one of the table too.
std::vector<std::int32_t> some_ids(std::int64_t rows, std::int64_t vocabulary) {
  std::vector<std::int32_t> ids;
  for (std::int64_t row = 0; row < rows; ++row)
    ids.push_back(static_cast<std::int32_t>(row % 3 == 0   ? vocabulary - 1
                                            : row % 7 == 1 ? 0
                                                           : row * 7919 % vocabulary));
  return ids;
}

class CudaEmbedding : public test::CudaTest, public testing::WithParamInterface<Case> {
 protected:
  const Case& c = GetParam();
  Dropout dropout{.probability = c.probability, .key = 21, .site = 5};
};

TEST_P(CudaEmbedding, Forward_HasTheBitsOfTheCpu) {
  TwinBatch batch(c.rows);
  Twin ids = Twin::integers(some_ids(c.rows, c.vocabulary));
  Twin table = Twin::random(c.dtype, {c.vocabulary, c.width}, 1), out = Twin::poison(DType::f32, {c.rows, c.width});
  const auto op = [&](auto on) {
    return Embedding{.sequences = on(batch), .ids = on(ids), .table = on(table), .dropout = dropout, .out = on(out)};
  };

  run_both([&] { cpu_ops->embedding(*host_queue, op(OnHost{})); }, [&] { embedding(stream, op(OnDevice{})); }, {&out});

  expect_same_bits(out, "out");
}

TEST_P(CudaEmbedding, Gradient_AddsRowsInTheirOrder_AsTheCpuDoes) {
  TwinBatch batch(c.rows);
  Twin ids = Twin::integers(some_ids(c.rows, c.vocabulary));
  Twin d_out = Twin::random(DType::f32, {c.rows, c.width}, 1),
       d_table = Twin::random(DType::f32, {c.vocabulary, c.width}, 2);
  const test::DeviceMemory workspace(embedding_workspace_bytes(c.rows));
  const auto op = [&](auto on) {
    return EmbeddingGradient{
        .sequences = on(batch), .ids = on(ids), .d_out = on(d_out), .dropout = dropout, .d_table = on(d_table)};
  };

  run_both([&] { cpu_ops->embedding_gradient(*host_queue, op(OnHost{})); },
           [&] { embedding_gradient(stream, workspace.span(), op(OnDevice{})); }, {&d_table});

  expect_same_bits(d_table, "d_table");
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudaEmbedding,
                         testing::Values(Case{DType::f32, 1, 1, 1, 0.0F}, Case{DType::bf16, 13, 6, 5, 0.3F},
                                         Case{DType::f32, 37, 11, 147, 0.2F}, Case{DType::bf16, 37, 11, 147, 0.2F},
                                         Case{DType::f32, 3000, 32128, 64, 0.1F},
                                         Case{DType::bf16, 9001, 256, 512, 0.1F},
                                         Case{DType::bf16, 40000, 250112, 24, 0.0F},
                                         Case{DType::f16, 37, 11, 147, 0.2F}, Case{DType::f16, 9001, 256, 512, 0.1F},
                                         Case{DType::f32, 0, 4, 8, 0.1F}));

}  // namespace
}  // namespace spillway::kernels::cuda
