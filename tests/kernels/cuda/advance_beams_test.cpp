// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/advance_beams.hpp"

#include <cmath>
#include <vector>

#include "core/philox.hpp"
#include "kernels/cpu/advance_beams.hpp"
#include "kernels/cuda/generation_fixture.hpp"

namespace spillway::kernels::cuda {
namespace {

using test::GenerationOnGpu;

/// AdvanceBeams in one piece of memory, wherever that is.
struct Beams {
  std::int64_t items, beams, capacity;
  std::size_t bytes = 0;

  AdvanceBeams in(std::byte* memory) {
    bytes = 0;
    const auto take = [&](const Shape& shape, DType dtype) {
      const TensorView tensor(memory + bytes, dtype, shape);
      bytes += (tensor.bytes() + 15) / 16 * 16;
      return tensor;
    };
    const std::int64_t rows = items * beams;
    AdvanceBeams op{.items = items, .beams = beams, .count = 2 * beams, .capacity = capacity, .max_length = capacity};
    op.scores = take({items, op.count}, DType::f32);
    op.rows = take({items, op.count}, DType::i32);
    op.tokens = take({items, op.count}, DType::i32);
    op.divisors = take({capacity}, DType::f64);
    op.stop = take({1}, DType::i32);
    BeamState& s = op.state;
    s.clock = take({BeamState::kClockEntries}, DType::i32);
    s.tokens = take({rows}, DType::i32);
    s.parents = take({rows}, DType::i32);
    s.row_scores = take({rows}, DType::f32);
    s.ancestry = take({rows, capacity}, DType::i32);
    s.token_cache = take({rows, capacity}, DType::i32);
    s.done = take({items}, DType::i32);
    s.finished_count = take({items}, DType::i32);
    s.finished_scores = take({items, beams}, DType::f64);
    s.finished_slot = take({items, beams}, DType::i32);
    s.finished_length = take({items, beams}, DType::i32);
    s.finished_source = take({items, beams}, DType::i32);
    s.finished_tokens = take({items, beams, capacity}, DType::i32);
    return op;
  }
};

TEST_F(GenerationOnGpu, AdvanceBeams_HasTheCpusBitsAtEveryStep) {
  for (const EarlyStopping early : {EarlyStopping::no, EarlyStopping::yes, EarlyStopping::never})
    for (const std::int64_t beams : {1, 2, 4, 200}) {
      Beams sizes{.items = 7, .beams = beams, .capacity = 150};
      static_cast<void>(sizes.in(nullptr));
      std::vector<std::byte> memory(sizes.bytes, std::byte{0});
      AdvanceBeams op = sizes.in(memory.data());
      op.early_stopping = early;
      const auto divisors = TensorView(const_cast<std::byte*>(op.divisors.data()), DType::f64, {150}).as<double>();
      for (std::size_t i = 0; i < divisors.size(); ++i) divisors[i] = std::pow(static_cast<double>(i), 0.7);
      for (std::int64_t row = 0; row < sizes.items * beams; ++row)
        op.state.ancestry.as<std::int32_t>()[static_cast<std::size_t>(row * 150)] = static_cast<std::int32_t>(row);
      std::byte* const gpu = allocate(memory.size());
      const auto copy = [&](std::byte* to, const std::byte* from, std::size_t bytes) {
        spillway::cuda::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_), "cudaMemcpyAsync");
        spillway::cuda::check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
      };
      copy(gpu, memory.data(), memory.size());
      AdvanceBeams on_gpu = sizes.in(gpu);
      on_gpu.early_stopping = early;
      PhiloxStream draws(9, static_cast<std::uint64_t>(beams));
      const std::size_t given = static_cast<std::size_t>(sizes.items * op.count) * 4;  // of each of the candidates
      for (int step = 0; step < 152; ++step) {
        auto* const scores = reinterpret_cast<float*>(memory.data());
        auto* const rows = reinterpret_cast<std::int32_t*>(const_cast<std::byte*>(op.rows.data()));
        auto* const tokens = reinterpret_cast<std::int32_t*>(const_cast<std::byte*>(op.tokens.data()));
        for (std::int64_t item = 0; item < sizes.items; ++item)
          for (std::int64_t c = 0; c < op.count; ++c) {
            const std::int64_t i = item * op.count + c;
            scores[i] = -0.3F * static_cast<float>(step) - 0.25F * static_cast<float>(c / 2);
            rows[i] = static_cast<std::int32_t>(
                item * beams + static_cast<std::int64_t>(draws.below(static_cast<std::uint32_t>(beams))));
            // Items end at very different times.
            tokens[i] = draws.below(static_cast<std::uint32_t>(4 << item)) == 0 ? 1 : 2 + static_cast<int>(i);
          }
        copy(gpu, memory.data(), 3 * ((given + 15) / 16 * 16));

        cpu::advance_beams(op);
        advance_beams(stream_, on_gpu);

        std::vector<std::byte> found(memory.size());
        copy(found.data(), gpu, found.size());
        ASSERT_EQ(found, memory) << beams << " beams, step " << step;
      }
      EXPECT_EQ(op.stop.as<std::int32_t>()[0], 1);
    }
}

}  // namespace
}  // namespace spillway::kernels::cuda
