// SPDX-License-Identifier: Apache-2.0
#include "train/evaluation.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>

#include "data/deal.hpp"

namespace spillway::train {
namespace {

/// One sample's part of the evaluation.
struct SampleResult {
  std::int64_t sample = 0;
  double loss = 0.0;
  std::vector<std::int32_t> tokens;
};

void append(std::vector<std::byte>& bytes, const void* data, std::size_t size) {
  const auto* begin = static_cast<const std::byte*>(data);
  bytes.insert(bytes.end(), begin, begin + size);
}

/// Every rank's results on every rank, in data order.
std::vector<SampleResult> gather(comm::Communicator& communicator, const std::vector<SampleResult>& mine,
                                 std::int64_t samples) {
  std::vector<std::byte> packed;
  for (const SampleResult& result : mine) {
    const auto count = static_cast<std::int64_t>(result.tokens.size());
    append(packed, &result.sample, sizeof(result.sample));
    append(packed, &result.loss, sizeof(result.loss));
    append(packed, &count, sizeof(count));
    append(packed, result.tokens.data(), result.tokens.size() * sizeof(std::int32_t));
  }
  std::vector<SampleResult> all(static_cast<std::size_t>(samples));
  for (const std::vector<std::byte>& bytes : communicator.exchange(packed)) {
    for (const std::byte* at = bytes.data(); at < bytes.data() + bytes.size();) {
      const auto take = [&at](void* to, std::size_t size) {
        if (size > 0) std::memcpy(to, at, size);
        at += size;
      };
      SampleResult result;
      std::int64_t count = 0;
      take(&result.sample, sizeof(result.sample));
      take(&result.loss, sizeof(result.loss));
      take(&count, sizeof(count));
      result.tokens.resize(static_cast<std::size_t>(count));
      take(result.tokens.data(), result.tokens.size() * sizeof(std::int32_t));
      all[static_cast<std::size_t>(result.sample)] = std::move(result);
    }
  }
  return all;
}

/// Batches of samples, the longest first so that a batch holds samples of one length; every rank's part of each.
std::vector<std::vector<std::int64_t>> my_batches(const Job& job) {
  const data::Examples& examples = *job.eval_examples;
  std::vector<std::int64_t> order(static_cast<std::size_t>(examples.size()));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return examples.source(a).size() > examples.source(b).size();
  });
  const auto per_batch = static_cast<std::size_t>(job.eval_limits.sequences * job.map->ranks());
  std::vector<std::vector<std::int64_t>> batches;
  for (std::size_t begin = 0; begin < order.size(); begin += per_batch) {
    const std::span<const std::int64_t> samples(order.data() + begin, std::min(per_batch, order.size() - begin));
    std::vector<std::int64_t> lengths;
    for (const std::int64_t sample : samples)
      lengths.push_back(static_cast<std::int64_t>(examples.source(sample).size()));
    std::vector<std::int64_t>& mine = batches.emplace_back();
    const auto dealt = data::deal(lengths, job.map->ranks(), 1);
    for (const std::int32_t index : dealt[static_cast<std::size_t>(job.zero.rank)][0])
      mine.push_back(samples[static_cast<std::size_t>(index)]);
  }
  return batches;
}

}  // namespace

Evaluation evaluate(Engine& engine, comm::Communicator& communicator) {
  const auto start = std::chrono::steady_clock::now();
  const Job& job = engine.job();
  const data::Examples& examples = *job.eval_examples;
  const bool generating = job.generation.items > 0;
  engine.begin_evaluation();
  std::vector<SampleResult> mine;
  const auto batches = my_batches(job);
  for (const std::vector<std::int64_t>& batch : batches) {
    const std::vector<double> losses = engine.losses(batch);
    std::vector<std::vector<model::Hypothesis>> hypotheses;
    if (generating) {
      std::vector<std::span<const std::int32_t>> sources;
      for (const std::int64_t sample : batch) sources.push_back(examples.source(sample));
      hypotheses = engine.generate(sources);
    }
    for (std::size_t i = 0; i < batch.size(); ++i)
      mine.push_back(
          {batch[i], losses[i], generating ? std::move(hypotheses[i].front().tokens) : std::vector<std::int32_t>{}});
  }
  engine.end_evaluation();

  Evaluation result;
  result.samples = examples.size();
  result.batches = static_cast<std::int64_t>(batches.size());
  result.generated = generating;
  std::vector<std::string> targets;
  std::vector<std::string> sources;
  double loss_sum = 0.0;
  std::int64_t target_tokens = 0;
  std::int64_t generated_tokens = 0;
  for (const SampleResult& sample : gather(communicator, mine, examples.size())) {
    loss_sum += sample.loss;
    target_tokens += static_cast<std::int64_t>(examples.target(sample.sample).size());
    if (!generating) continue;
    const auto text_tokens = std::span(sample.tokens);
    generated_tokens += std::count_if(text_tokens.begin(), text_tokens.end(),
                                      [&](std::int32_t id) { return id != job.source.config.pad_token_id; });
    result.predictions.push_back(job.tokenizer->decode(text_tokens));
    targets.emplace_back(examples.target_text(sample.sample));
    sources.emplace_back(examples.source_text(sample.sample));
  }
  result.loss = loss_sum / static_cast<double>(target_tokens);
  if (generating) {
    switch (job.options.eval.metric) {
      case EvalMetric::bleu:
        result.bleu = data::corpus_bleu(result.predictions, targets);
        result.copied = data::corpus_bleu(sources, targets);
        break;
      case EvalMetric::rouge: result.rouge = data::corpus_rouge(result.predictions, targets); break;
    }
    result.generated_length = static_cast<double>(generated_tokens) / static_cast<double>(examples.size());
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace spillway::train
