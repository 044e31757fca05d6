// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention_reference.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/philox.hpp"
#include "kernels/relative_position.hpp"

namespace spillway::kernels {
namespace {

std::vector<std::int32_t> offsets_of(const std::vector<std::int32_t>& lengths) {
  std::vector<std::int32_t> offsets(lengths.size() + 1, 0);
  std::partial_sum(lengths.begin(), lengths.end(), offsets.begin() + 1);
  return offsets;
}

std::vector<double> random_values(std::int64_t count, std::uint64_t stream) {
  PhiloxStream random(17, stream);
  std::vector<double> values(static_cast<std::size_t>(count));
  for (double& value : values) value = static_cast<double>(0.7F * random.normal());
  return values;
}

/// The mask as kernels/common.hpp words it.
double multiplier(const Dropout& dropout, std::uint32_t sample, std::uint32_t head, std::int64_t query,
                  std::int64_t key, std::int64_t keys) {
  if (!dropout.active()) return 1.0;
  const std::int64_t block = query * ((keys + 7) / 8) + key / 8;
  const auto draws = Philox::draw(dropout.key, {static_cast<std::uint32_t>(block), sample, dropout.site, head});
  const auto lane = static_cast<std::uint32_t>(key % 8);
  const std::uint32_t bits = (draws[lane / 2] >> (16 * (lane % 2))) & 0xFFFFU;
  return bits >= dropout.threshold() ? static_cast<double>(dropout.scale()) : 0.0;
}

}  // namespace

AttentionReference::AttentionReference(const AttentionCase& which)
    : shape(which),
      query_offsets(offsets_of(which.query_lengths)),
      key_offsets(offsets_of(which.key_lengths.empty() ? which.query_lengths : which.key_lengths)),
      dropout{.probability = which.dropout, .key = 0x0123456789ABCDEFULL, .site = 5} {
  for (std::size_t s = 0; s < shape.query_lengths.size(); ++s) {
    for (std::int32_t i = 0; i < shape.query_lengths[s]; ++i) {
      row_sample.push_back(static_cast<std::int32_t>(31 - 3 * s));
      row_position.push_back(i);
    }
  }
}

std::size_t AttentionReference::query_at(const Place& place) const {
  return static_cast<std::size_t>((query_offsets[place.sequence] + place.query) * width()) +
         place.head * static_cast<std::size_t>(shape.head_size);
}

std::size_t AttentionReference::key_at(const Place& place, std::int64_t key) const {
  return static_cast<std::size_t>((key_offsets[place.sequence] + key) * width()) +
         place.head * static_cast<std::size_t>(shape.head_size);
}

std::size_t AttentionReference::table_at(const Place& place, std::int64_t key) const {
  const std::int64_t bucket = relative_bucket(
      key - place.query, {.count = buckets, .bidirectional = !shape.causal, .max_distance = max_distance});
  return static_cast<std::size_t>(bucket * shape.heads) + place.head;
}

AttentionReference::Row AttentionReference::probabilities(const AttentionValues& values, const Place& place) const {
  const std::int64_t keys = key_offsets[place.sequence + 1] - key_offsets[place.sequence];
  const std::int64_t visible = shape.causal ? std::min(place.query + 1, keys) : keys;
  Row row;
  double sum = 0.0;
  for (std::int64_t j = 0; j < visible; ++j) {
    double score = shape.bias ? values.table[table_at(place, j)] : 0.0;
    for (std::size_t c = 0; c < static_cast<std::size_t>(shape.head_size); ++c) {
      score += values.q[query_at(place) + c] * values.k[key_at(place, j) + c];
    }
    row.probability.push_back(std::exp(score));
    sum += row.probability.back();
    const auto at = static_cast<std::size_t>(query_offsets[place.sequence] + place.query);
    row.multiplier.push_back(multiplier(dropout, static_cast<std::uint32_t>(row_sample[at]),
                                        static_cast<std::uint32_t>(place.head), row_position[at], j, keys));
  }
  for (double& p : row.probability) p /= sum;
  row.lse = std::log(sum);
  return row;
}

template <typename Visit>
void AttentionReference::each_row(const Visit& visit) const {
  for (std::size_t s = 0; s < shape.query_lengths.size(); ++s) {
    for (std::size_t h = 0; h < static_cast<std::size_t>(shape.heads); ++h) {
      for (std::int64_t i = 0; i < shape.query_lengths[s]; ++i) visit(Place{s, h, i});
    }
  }
}

AttentionResult AttentionReference::forward(const AttentionValues& values) const {
  AttentionResult result{.out = std::vector<double>(static_cast<std::size_t>(query_rows() * width())),
                         .lse = std::vector<double>(static_cast<std::size_t>(query_rows() * shape.heads))};
  each_row([&](const Place& place) {
    const Row row = probabilities(values, place);
    result.lse[static_cast<std::size_t>((query_offsets[place.sequence] + place.query) * shape.heads) + place.head] =
        row.lse;
    for (std::size_t j = 0; j < row.probability.size(); ++j) {
      for (std::size_t c = 0; c < static_cast<std::size_t>(shape.head_size); ++c) {
        result.out[query_at(place) + c] +=
            row.multiplier[j] * row.probability[j] * values.v[key_at(place, static_cast<std::int64_t>(j)) + c];
      }
    }
  });
  return result;
}

AttentionValues AttentionReference::gradient(const AttentionValues& values, const std::vector<double>& d_out) const {
  AttentionValues d{.q = std::vector<double>(values.q.size()),
                    .k = std::vector<double>(values.k.size()),
                    .v = std::vector<double>(values.v.size()),
                    .table = std::vector<double>(values.table.size())};
  each_row([&](const Place& place) {
    const Row row = probabilities(values, place);
    const std::size_t q = query_at(place);
    std::vector<double> d_probability(row.probability.size());
    double mean = 0.0;
    for (std::size_t j = 0; j < d_probability.size(); ++j) {
      const std::size_t k = key_at(place, static_cast<std::int64_t>(j));
      for (std::size_t c = 0; c < static_cast<std::size_t>(shape.head_size); ++c) {
        d_probability[j] += row.multiplier[j] * d_out[q + c] * values.v[k + c];
        d.v[k + c] += row.multiplier[j] * row.probability[j] * d_out[q + c];
      }
      mean += row.probability[j] * d_probability[j];
    }
    for (std::size_t j = 0; j < d_probability.size(); ++j) {
      const double d_score = row.probability[j] * (d_probability[j] - mean);
      const std::size_t k = key_at(place, static_cast<std::int64_t>(j));
      for (std::size_t c = 0; c < static_cast<std::size_t>(shape.head_size); ++c) {
        d.q[q + c] += d_score * values.k[k + c];
        d.k[k + c] += d_score * values.q[q + c];
      }
      if (shape.bias) d.table[table_at(place, static_cast<std::int64_t>(j))] += d_score;
    }
  });
  return d;
}

AttentionValues AttentionReference::example_values() const {
  return {.q = random_values(query_rows() * width(), 1),
          .k = random_values(key_rows() * width(), 2),
          .v = random_values(key_rows() * width(), 3),
          .table = random_values(buckets * shape.heads, 4)};
}

std::vector<double> AttentionReference::example_d_out() const { return random_values(query_rows() * width(), 5); }

}  // namespace spillway::kernels
