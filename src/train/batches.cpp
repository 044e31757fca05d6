// SPDX-License-Identifier: Apache-2.0
#include "train/batches.hpp"

#include <algorithm>
#include <functional>
#include <numeric>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

/// Adds one sequence to a side's tables. \return its number of rows
std::int64_t add_sequence(std::span<std::int32_t> offsets, std::span<std::int32_t> row_sample,
                          std::span<std::int32_t> row_position, std::size_t index, std::int64_t length,
                          std::int32_t stream) {
  const std::int32_t begin = offsets[index];
  offsets[index + 1] = begin + static_cast<std::int32_t>(length);
  for (std::int64_t position = 0; position < length; ++position) {
    row_sample[static_cast<std::size_t>(begin + position)] = stream;
    row_position[static_cast<std::size_t>(begin + position)] = static_cast<std::int32_t>(position);
  }
  return length;
}

}  // namespace

model::BatchLimits batch_limits(const data::Examples& examples, std::int64_t sequences) {
  const std::int64_t count = std::min(sequences, examples.size());
  const auto longest_sum = [&](const std::function<std::size_t(std::int64_t)>& length) {
    std::vector<std::int64_t> lengths;
    for (std::int64_t i = 0; i < examples.size(); ++i) lengths.push_back(static_cast<std::int64_t>(length(i)));
    std::partial_sort(lengths.begin(), lengths.begin() + count, lengths.end(), std::greater<>());
    return std::accumulate(lengths.begin(), lengths.begin() + count, std::int64_t{0});
  };
  return {.sequences = count,
          .source_rows = longest_sum([&](std::int64_t i) { return examples.source(i).size(); }),
          .target_rows = longest_sum([&](std::int64_t i) { return examples.target(i).size(); })};
}

model::BatchLimits larger(const model::BatchLimits& a, const model::BatchLimits& b) {
  return {.sequences = std::max(a.sequences, b.sequences),
          .source_rows = std::max(a.source_rows, b.source_rows),
          .target_rows = std::max(a.target_rows, b.target_rows)};
}

BatchMemory::BatchMemory(const model::BatchLimits& limits, std::byte* memory) : limits_(limits) {
  model::Carver carver(memory);
  carve(carver);
}

std::size_t BatchMemory::bytes(const model::BatchLimits& limits) {
  BatchMemory counted(limits, nullptr);
  model::Carver carver;
  counted.carve(carver);
  return carver.bytes();
}

BatchMemory::Side BatchMemory::carve_side(model::Carver& carver, std::int64_t sequences, std::int64_t rows) {
  return {.offsets = carver.take({sequences + 1}, DType::i32),
          .row_sample = carver.take({rows}, DType::i32),
          .row_position = carver.take({rows}, DType::i32)};
}

void BatchMemory::carve(model::Carver& carver) {
  source_ = carve_side(carver, limits_.sequences, limits_.source_rows);
  target_ = carve_side(carver, limits_.sequences, limits_.target_rows);
  source_ids_ = carver.take({limits_.source_rows}, DType::i32);
  decoder_ids_ = carver.take({limits_.target_rows}, DType::i32);
  labels_ = carver.take({limits_.target_rows}, DType::i32);
  losses_ = carver.take({limits_.target_rows});
}

kernels::PackedSequences BatchMemory::sequences_of(const Side& side, std::int64_t count, std::int64_t longest) {
  const std::int64_t rows = side.offsets.as<std::int32_t>()[static_cast<std::size_t>(count)];
  return {.offsets = side.offsets.rows(0, count + 1),
          .row_sample = side.row_sample.rows(0, rows),
          .row_position = side.row_position.rows(0, rows),
          .count = count,
          .rows = rows,
          .longest = longest};
}

model::MicroBatch BatchMemory::pack_sources(std::span<const std::span<const std::int32_t>> sources) {
  const auto offsets = source_.offsets.as<std::int32_t>();
  const auto ids = source_ids_.as<std::int32_t>();
  std::int64_t longest = 0;
  offsets[0] = 0;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const auto length = static_cast<std::int64_t>(sources[i].size());
    if (static_cast<std::int64_t>(i) >= limits_.sequences || offsets[i] + length > limits_.source_rows)
      throw Error(
          fmt::format("a batch of {} sources exceeds its memory of {} rows", sources.size(), limits_.source_rows));
    std::ranges::copy(sources[i], ids.begin() + offsets[i]);
    longest = std::max(
        longest, add_sequence(offsets, source_.row_sample.as<std::int32_t>(), source_.row_position.as<std::int32_t>(),
                              i, length, static_cast<std::int32_t>(i)));
  }
  model::MicroBatch batch;
  batch.source = sequences_of(source_, static_cast<std::int64_t>(sources.size()), longest);
  batch.source_ids = source_ids_.rows(0, batch.source.rows);
  return batch;
}

model::MicroBatch BatchMemory::pack(const data::Examples& examples, std::span<const BatchItem> items,
                                    std::int32_t start_token) {
  std::vector<std::span<const std::int32_t>> sources;
  for (const BatchItem& item : items) sources.push_back(examples.source(item.example));
  model::MicroBatch batch = pack_sources(sources);

  const auto offsets = target_.offsets.as<std::int32_t>();
  const auto labels = labels_.as<std::int32_t>();
  const auto inputs = decoder_ids_.as<std::int32_t>();
  const auto source_sample = source_.row_sample.as<std::int32_t>();
  const auto source_offsets = source_.offsets.as<std::int32_t>();
  std::int64_t longest = 0;
  offsets[0] = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const auto target = examples.target(items[i].example);
    if (offsets[i] + static_cast<std::int64_t>(target.size()) > limits_.target_rows)
      throw Error(
          fmt::format("a batch of {} targets exceeds its memory of {} rows", items.size(), limits_.target_rows));
    std::ranges::copy(target, labels.begin() + offsets[i]);
    inputs[static_cast<std::size_t>(offsets[i])] = start_token;
    std::copy(target.begin(), target.end() - 1, inputs.begin() + offsets[i] + 1);
    longest = std::max(
        longest, add_sequence(offsets, target_.row_sample.as<std::int32_t>(), target_.row_position.as<std::int32_t>(),
                              i, static_cast<std::int64_t>(target.size()), items[i].stream));
    std::fill(source_sample.begin() + source_offsets[i], source_sample.begin() + source_offsets[i + 1],
              items[i].stream);
  }
  batch.target = sequences_of(target_, static_cast<std::int64_t>(items.size()), longest);
  batch.labels = labels_.rows(0, batch.target.rows);
  batch.decoder_ids = decoder_ids_.rows(0, batch.target.rows);
  batch.losses = losses_.rows(0, batch.target.rows);
  return batch;
}

std::vector<double> sample_losses(const model::MicroBatch& batch) {
  const auto offsets = batch.target.offsets.as<std::int32_t>();
  const auto losses = batch.losses.as<float>();
  std::vector<double> sums(static_cast<std::size_t>(batch.target.count), 0.0);
  for (std::size_t i = 0; i < sums.size(); ++i)
    for (auto row = static_cast<std::size_t>(offsets[i]); row < static_cast<std::size_t>(offsets[i + 1]); ++row)
      sums[i] += static_cast<double>(losses[row]);
  return sums;
}

}  // namespace spillway::train
