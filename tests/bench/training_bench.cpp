// SPDX-License-Identifier: Apache-2.0
// Forward and backward pass of a model of t5-small's shape on 8 sentences, without optimizer: what the kernels cost.
#include <random>

#include <benchmark/benchmark.h>

#include "core/philox.hpp"
#include "model/tiny_model.hpp"

namespace spillway::model {
namespace {

/// Lengths of real English-Romanian pairs, source and target, </s> included.
constexpr std::pair<int, int> kLengths[] = {{41, 48}, {36, 39}, {33, 37}, {30, 35},
                                            {27, 30}, {24, 29}, {19, 21}, {14, 15}};

test::Ids random_ids(bool targets) {
  PhiloxStream random(11, targets ? 1 : 0);
  test::Ids ids;
  for (const auto& [source, target] : kLengths) {
    auto& sentence = ids.emplace_back();
    for (int i = 1; i < (targets ? target : source); ++i)
      sentence.push_back(static_cast<std::int32_t>(random.below(32000)) + 3);
    sentence.push_back(1);
  }
  return ids;
}

/// Arguments: threads, bf16.
void training_step(benchmark::State& state) {
  const T5Config config;  // t5-small
  test::TinyModel model(config, {}, static_cast<int>(state.range(0)));
  std::minstd_rand random;  // 60 million numbers: quick rather than good
  for (const TensorSpec& tensor : model.layout().tensors())
    for (float& weight : model.parameters().weights_of(tensor))
      weight = static_cast<float>(random()) * (0.2F / static_cast<float>(std::minstd_rand::max())) - 0.1F;
  if (state.range(1) != 0) model.parameters().round_weights(DType::bf16);
  test::PackedBatch batch(random_ids(false), random_ids(true), config.decoder_start_token_id);
  batch.batch.dropout_key = mix_key(1, 2);

  for (auto _ : state) benchmark::DoNotOptimize(model.loss_and_gradients({&batch}, {.dropout = 0.1F}));

  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(std::size(kLengths)));
}
BENCHMARK(training_step)
    ->ArgsProduct({{1, 2}, {0, 1}})
    ->ArgNames({"threads", "bf16"})
    ->Unit(benchmark::kMillisecond)
    ->MeasureProcessCPUTime()
    ->UseRealTime();

}  // namespace
}  // namespace spillway::model
