// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/state_codec.hpp"

#include <cmath>

#include "kernels/cpu/state_codec.hpp"
#include "kernels/cuda/gpu_copies.hpp"
#include "kernels/state_fixtures.hpp"

namespace spillway::kernels::cuda {
namespace {

using test::flat;
using test::normals;
using test::same_bits;
using StateCodecOnGpu = test::GpuTest;

/// Blocks of zeros, of one number and of very different numbers among them.
std::vector<float> awkward(std::size_t count, StateSign sign) {
  std::vector<float> values = normals(count, 3);
  for (std::size_t i = 0; i < count; ++i) {
    if (i / 256 == 1) values[i] = 0.0F;
    if (i / 256 == 2) values[i] *= values[i] * values[i] * 1e-20F;
    if (i % 97 == 0) values[i] *= 1e-6F;
    if (sign == StateSign::nonnegative) values[i] = std::abs(values[i]);
  }
  return values;
}

TEST_F(StateCodecOnGpu, StatesOfAnyFormat_HaveTheBitsOfTheCpu) {
  cpu::ThreadPool pool(2);
  const StateCodeTables* const tables = codes();
  for (const DType format : {DType::f32, DType::bf16, DType::u8})
    for (const StateSign sign : {StateSign::either, StateSign::nonnegative})
      for (const std::size_t count : {1, 7, 256, 300, 4001}) {
        const std::vector<float> values = awkward(count, sign);
        const StochasticRounding rounding{.key = 7, .site = 3, .first = format == DType::u8 ? 256 : 1001};
        test::State expected(format, count), found(format, count);
        std::vector<float> back(count), back_found(count, -1.0F);
        cpu::encode_state(pool, {flat(values), expected.view(), sign, rounding});
        cpu::decode_state(pool, {expected.view(), flat(back), sign});

        const StateView host = found.view();
        const StateView state{on_gpu(host.values), on_gpu(host.scales)};
        encode_state(stream_, {on_gpu(flat(values)), state, sign, rounding}, tables);
        decode_state(stream_, {state, on_gpu(flat(back_found)), sign}, tables);

        collect();
        EXPECT_TRUE(found.same_as(expected)) << name_of(format) << " " << count;
        EXPECT_TRUE(same_bits(back_found, back)) << name_of(format) << " " << count;
      }
}

TEST_F(StateCodecOnGpu, ParametersInTwoPlusTwoBytes_AreThoseOfTheCpuAndComeBack) {
  cpu::ThreadPool pool(2);
  for (const std::size_t count : {1, 8, 1003}) {
    const std::vector<float> values = normals(count, 5);
    test::SplitParameter expected(count), found(count);
    std::vector<float> back(count, -1.0F);
    cpu::encode_parameter(pool, {flat(values), expected.view()});

    const ParameterView host = found.view();
    const ParameterView parameter{on_gpu(host.weight), on_gpu(host.master)};
    encode_parameter(stream_, {on_gpu(flat(values)), parameter});
    decode_parameter(stream_, {parameter, on_gpu(flat(back))});

    collect();
    EXPECT_TRUE(same_bits(found.weight, expected.weight));
    EXPECT_TRUE(same_bits(found.master, expected.master));
    EXPECT_TRUE(same_bits(back, values));
  }
}

TEST_F(StateCodecOnGpu, ParametersInF16WithAnF32Master_AreThoseOfTheCpuAndComeBack) {
  cpu::ThreadPool pool(2);
  for (const std::size_t count : {1, 8, 1003}) {
    std::vector<float> values = normals(count, 5);
    for (std::size_t i = 0; i < count; i += 5) values[i] *= 1e-7F;  // among f16's subnormal numbers
    test::HalfParameter expected(count), found(count);
    std::vector<float> back(count, -1.0F), frozen(count, -1.0F);
    cpu::encode_parameter(pool, {flat(values), expected.view()});

    const ParameterView host = found.view();
    const ParameterView parameter{on_gpu(host.weight), on_gpu(host.master)};
    encode_parameter(stream_, {on_gpu(flat(values)), parameter});
    decode_parameter(stream_, {parameter, on_gpu(flat(back))});
    decode_parameter(stream_, {{.weight = parameter.weight, .master = {}}, on_gpu(flat(frozen))});

    collect();
    EXPECT_TRUE(same_bits(found.weight, expected.weight));
    EXPECT_TRUE(same_bits(found.master, expected.master));
    EXPECT_TRUE(same_bits(back, values));
    for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(frozen[i], float_from_f16(expected.weight[i]));
  }
}

}  // namespace
}  // namespace spillway::kernels::cuda
