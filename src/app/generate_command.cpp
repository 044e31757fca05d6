// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "app/commands.hpp"
#include "app/config_record.hpp"
#include "app/device_choice.hpp"
#include "app/output_file.hpp"
#include "app/overrides.hpp"
#include "app/shared_config.hpp"
#include "comm/communicator.hpp"
#include "data/utf8.hpp"
#include "train/agreement.hpp"
#include "train/engine.hpp"
#include "train/generation_settings.hpp"
#include "train/weights.hpp"

namespace spillway::app {
namespace {

using train::agree;

/// All lines of a file or of standard input; an empty line is a source too.
std::vector<std::string> read_sources(const std::string& input) {
  std::ifstream file;
  if (input != "-") {
    file.open(input, std::ios::binary);
    if (!file) throw DataError(fmt::format("{}: cannot be read: {}", input, std::strerror(errno)));
    std::error_code unknown;
    if (std::filesystem::is_directory(input, unknown))
      throw DataError(fmt::format("{}: is a folder, a text file was expected", input));
  }
  std::istream& from = input == "-" ? std::cin : file;
  std::vector<std::string> lines;
  for (std::string line; std::getline(from, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (data::find_invalid_utf8(line))
      throw DataError(fmt::format("{}:{}: not valid UTF-8", input == "-" ? "standard input" : input, lines.size() + 1));
    lines.push_back(std::move(line));
  }
  // Standard input tells an error from an end only in C.
  if (from.bad() || (input == "-" && std::ferror(stdin) != 0))
    throw IoError(
        fmt::format("{}: reading failed after {} lines", input == "-" ? "standard input" : input, lines.size()), errno);
  return lines;
}

/// The lines of rank 0's input on every rank.
std::vector<std::string> shared_sources(const std::string& input, comm::Communicator& communicator) {
  const std::string text = train::text_of_rank_0(communicator, [&] {
    std::string joined;
    for (const std::string& line : read_sources(input)) joined += line + '\n';
    return joined;
  });
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

std::vector<std::int32_t> tokens_of(const std::string& line, const train::RunOptions& options,
                                    const data::Tokenizer& tokenizer) {
  std::vector<std::int32_t> ids = tokenizer.encode(options.data.source_prefix.value_or("") + line);
  ids.resize(std::min(ids.size(), static_cast<std::size_t>(options.data.max_source_length - 1)));
  ids.push_back(tokenizer.eos_id());
  return ids;
}

std::string line_of(const model::Hypothesis& hypothesis, const GenerateArguments& arguments, const train::Job& job) {
  std::string line = arguments.scores ? fmt::format("{:.6f}\t", hypothesis.score) : std::string();
  if (arguments.ids) {
    line += fmt::format("{}", job.source.config.decoder_start_token_id);
    for (const std::int32_t id : hypothesis.tokens) line += fmt::format(" {}", id);
  } else {
    std::string text = job.tokenizer->decode(hypothesis.tokens);
    std::replace(text.begin(), text.end(), '\n', ' ');
    line += text;
  }
  return line + '\n';
}

}  // namespace

ExitCode generate_command(const GenerateArguments& arguments, Runtime& runtime) {
  comm::Communicator& communicator = runtime.communicator;
  train::RunOptions options = read_shared_run_options(
      communicator, {.file = {}, .environment = process_environment(), .arguments = arguments.settings});
  options.zero.stage = 0;  // every rank decodes its share of the sources with weights of its own
  const std::vector<std::string> lines = shared_sources(arguments.input, communicator);
  std::optional<OutputFile> output;  // before the work: one that cannot be written is found out now
  agree(communicator, [&] {
    if (communicator.rank() == 0) output.emplace(arguments.output);
  });

  std::vector<std::vector<std::int32_t>> sources;
  agree(communicator, [&] {
    const train::ModelSource source = train::open_model(options.model);
    train::apply_task(options, source);
    const auto tokenizer = train::open_tokenizer(source);
    for (const std::string& line : lines) {
      sources.push_back(tokens_of(line, options, *tokenizer));
      for (const std::int32_t id : sources.back())
        if (id >= source.config.vocab_size)
          throw DataError(fmt::format("line {}: the tokenizer gives id {}, but the model's vocab_size is {}",
                                      sources.size(), id, source.config.vocab_size));
    }
  });
  if (lines.empty()) {
    agree(communicator, [&] {
      if (output) output->finish("");
    });
    return ExitCode::done;
  }
  std::int64_t longest = 0;
  for (const auto& ids : sources) longest = std::max(longest, static_cast<std::int64_t>(ids.size()));
  const std::int64_t batch = std::min(options.eval.per_device_eval_batch_size, static_cast<std::int64_t>(lines.size()));

  const std::unique_ptr<Device> gpu = open_gpu(options, runtime);
  train::Runtime lent = lend(runtime, gpu.get());
  const auto job =
      train::prepare_job(options, train::Purpose::generate, lent, {.batch = batch, .longest_source = longest});
  const auto made = train::make_engine(*job, lent);
  train::Engine& engine = *made;
  agree(communicator, [&] {
    train::load_weights(job->source, *job->layout, options.train.seed, options.model.embedding_std, job->zero,
                        engine.state());
  });

  // Batches go round the ranks; rank r's text of batch b is the (b / ranks)-th that it sends, and each source has as many
  // lines as sequences are returned.
  engine.begin_evaluation();
  std::string mine;
  const std::size_t ranks = static_cast<std::size_t>(communicator.size());
  const auto step = static_cast<std::size_t>(batch);
  const auto returned = static_cast<std::size_t>(job->generation.options.num_return_sequences);
  for (std::size_t begin = static_cast<std::size_t>(communicator.rank()) * step; begin < sources.size();
       begin += ranks * step) {
    std::vector<std::span<const std::int32_t>> items;
    for (std::size_t i = begin; i < std::min(begin + step, sources.size()); ++i) items.emplace_back(sources[i]);
    for (const std::vector<model::Hypothesis>& hypotheses : engine.generate(items))
      for (std::size_t i = 0; i < returned; ++i) mine += line_of(hypotheses[i], arguments, *job);
  }
  engine.end_evaluation();
  const auto all = communicator.exchange(std::as_bytes(std::span(mine)));
  agree(communicator, [&] {
    if (!output) return;
    std::string text;
    std::vector<std::size_t> at(ranks, 0);
    for (std::size_t i = 0; i < sources.size() * returned; ++i) {
      const std::size_t rank = i / returned / step % ranks;
      const std::string_view from(reinterpret_cast<const char*>(all[rank].data()), all[rank].size());
      const std::size_t end = from.find('\n', at[rank]) + 1;
      text += from.substr(at[rank], end - at[rank]);
      at[rank] = end;
    }
    output->finish(text);
  });
  return ExitCode::done;
}

}  // namespace spillway::app
