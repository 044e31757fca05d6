// SPDX-License-Identifier: Apache-2.0
#include "train/batches.hpp"

#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>

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

BatchMemory::BatchMemory(const model::BatchLimits& limits, Device& device, std::byte* on_device, std::byte* on_host)
    : limits_(limits), device_(device) {
  model::Carver carver(on_device);
  on_device_ = carve(carver, limits);
  if (on_host == nullptr) {
    on_host_ = on_device_;
    return;
  }
  model::Carver host(on_host);
  on_host_ = carve(host, limits);
  sent_bytes_ = static_cast<std::size_t>(on_host_.losses.data() - on_host);
}

std::size_t BatchMemory::bytes(const model::BatchLimits& limits) {
  model::Carver carver;
  (void)carve(carver, limits);
  return carver.bytes();
}

BatchMemory::Side BatchMemory::carve_side(model::Carver& carver, std::int64_t sequences, std::int64_t rows) {
  return {.offsets = carver.take({sequences + 1}, DType::i32),
          .row_sample = carver.take({rows}, DType::i32),
          .row_position = carver.take({rows}, DType::i32)};
}

BatchMemory::Tables BatchMemory::carve(model::Carver& carver, const model::BatchLimits& limits) {
  Tables tables;
  tables.source = carve_side(carver, limits.sequences, limits.source_rows);
  tables.target = carve_side(carver, limits.sequences, limits.target_rows);
  tables.source_ids = carver.take({limits.source_rows}, DType::i32);
  tables.decoder_ids = carver.take({limits.target_rows}, DType::i32);
  tables.labels = carver.take({limits.target_rows}, DType::i32);
  tables.losses = carver.take({limits.target_rows});  // the last: what is sent to the device ends here
  return tables;
}

kernels::PackedSequences BatchMemory::sequences_of(const Side& side, std::int64_t count, std::int64_t rows,
                                                   std::int64_t longest) {
  return {.offsets = side.offsets.rows(0, count + 1),
          .row_sample = side.row_sample.rows(0, rows),
          .row_position = side.row_position.rows(0, rows),
          .count = count,
          .rows = rows,
          .longest = longest};
}

void BatchMemory::fill_sources(std::span<const std::span<const std::int32_t>> sources, model::MicroBatch& batch) {
  sent_.wait();
  const Side& side = on_host_.source;
  const auto offsets = side.offsets.as<std::int32_t>();
  const auto ids = on_host_.source_ids.as<std::int32_t>();
  std::int64_t longest = 0;
  offsets[0] = 0;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const auto length = static_cast<std::int64_t>(sources[i].size());
    if (static_cast<std::int64_t>(i) >= limits_.sequences || offsets[i] + length > limits_.source_rows)
      throw Error(
          fmt::format("a batch of {} sources exceeds its memory of {} rows", sources.size(), limits_.source_rows));
    std::ranges::copy(sources[i], ids.begin() + offsets[i]);
    longest =
        std::max(longest, add_sequence(offsets, side.row_sample.as<std::int32_t>(),
                                       side.row_position.as<std::int32_t>(), i, length, static_cast<std::int32_t>(i)));
  }
  const std::int64_t rows = offsets[sources.size()];
  batch.source = sequences_of(on_device_.source, static_cast<std::int64_t>(sources.size()), rows, longest);
  batch.source_ids = on_device_.source_ids.rows(0, rows);
}

void BatchMemory::send(Queue& queue, StallClock* stalls) {
  if (sent_bytes_ == 0) return;
  std::optional<StallClock::Span> span;
  if (stalls != nullptr) span.emplace(*stalls, Activity::h2d);
  device_.copy_little(queue, on_device_.source.offsets.data(), on_host_.source.offsets.data(), sent_bytes_);
  sent_ = queue.record();
}

model::MicroBatch BatchMemory::pack_sources(Queue& queue, std::span<const std::span<const std::int32_t>> sources) {
  model::MicroBatch batch;
  fill_sources(sources, batch);
  send(queue, nullptr);
  return batch;
}

model::MicroBatch BatchMemory::pack(Queue& queue, const data::Examples& examples, std::span<const BatchItem> items,
                                    std::int32_t start_token, StallClock* stalls) {
  std::vector<std::span<const std::int32_t>> sources;
  for (const BatchItem& item : items) sources.push_back(examples.source(item.example));
  model::MicroBatch batch;
  fill_sources(sources, batch);

  const Side& side = on_host_.target;
  const auto offsets = side.offsets.as<std::int32_t>();
  const auto labels = on_host_.labels.as<std::int32_t>();
  const auto inputs = on_host_.decoder_ids.as<std::int32_t>();
  const auto source_sample = on_host_.source.row_sample.as<std::int32_t>();
  const auto source_offsets = on_host_.source.offsets.as<std::int32_t>();
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
        longest, add_sequence(offsets, side.row_sample.as<std::int32_t>(), side.row_position.as<std::int32_t>(), i,
                              static_cast<std::int64_t>(target.size()), items[i].stream));
    std::fill(source_sample.begin() + source_offsets[i], source_sample.begin() + source_offsets[i + 1],
              items[i].stream);
  }
  targets_ = static_cast<std::int64_t>(items.size());
  const std::int64_t rows = offsets[items.size()];
  batch.target = sequences_of(on_device_.target, targets_, rows, longest);
  batch.labels = on_device_.labels.rows(0, rows);
  batch.decoder_ids = on_device_.decoder_ids.rows(0, rows);
  batch.losses = on_device_.losses.rows(0, rows);
  send(queue, stalls);
  return batch;
}

void BatchMemory::fetch_losses(Queue& queue) {
  if (sent_bytes_ > 0)
    device_.copy_little(queue, on_host_.losses.data(), on_device_.losses.data(), on_device_.losses.bytes());
}

std::vector<double> BatchMemory::sample_losses() const {
  const auto offsets = on_host_.target.offsets.as<std::int32_t>();
  const auto losses = on_host_.losses.as<float>();
  std::vector<double> sums(static_cast<std::size_t>(targets_), 0.0);
  for (std::size_t i = 0; i < sums.size(); ++i)
    for (auto row = static_cast<std::size_t>(offsets[i]); row < static_cast<std::size_t>(offsets[i + 1]); ++row)
      sums[i] += static_cast<double>(losses[row]);
  return sums;
}

}  // namespace spillway::train
