// SPDX-License-Identifier: Apache-2.0
#include "data/examples.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "data/lines.hpp"
#include "data/utf8.hpp"

namespace spillway::data {

/// Fills an Examples from files of every form.
class ExamplesReader {
 public:
  ExamplesReader(const ExamplesOptions& options, const Tokenizer& tokenizer)
      : options_(options), tokenizer_(tokenizer) {
    if (options.max_source_length < 1 || options.max_target_length < 1) {
      throw ConfigError(fmt::format("max_source_length and max_target_length must be at least 1, they are {} and {}",
                                    options.max_source_length, options.max_target_length));
    }
  }

  Examples read() {
    for (const std::string& path : options_.paths) {
      if (full()) break;
      if (path.ends_with(".jsonl")) {
        read_jsonl(path);
      } else if (path.ends_with(".tsv")) {
        read_tsv(path);
      } else {
        read_pair_of_files(path);
      }
    }
    if (examples_.size() == 0)
      throw DataError(fmt::format("{}: no examples, the data is empty", fmt::join(options_.paths, ", ")));
    examples_.sources_.shrink();
    examples_.targets_.shrink();
    examples_.source_texts_.shrink();
    examples_.target_texts_.shrink();
    return std::move(examples_);
  }

 private:
  bool full() const { return options_.max_samples > 0 && examples_.size() >= options_.max_samples; }

  void read_pair_of_files(const std::string& base) {
    LineReader sources(base + ".source");
    LineReader targets(base + ".target");
    for (;;) {
      const auto source = sources.next();
      const auto target = targets.next();
      if (!source && !target) return;
      if (!source) refuse_lengths(sources, targets);
      if (!target) refuse_lengths(targets, sources);
      if (full()) continue;
      if (is_blank(*source)) sources.fail("empty line where a source was expected");
      if (is_blank(*target)) targets.fail("empty line where a target was expected");
      add(sources, *source, targets, *target);
    }
  }

  void read_tsv(const std::string& path) {
    LineReader lines(path);
    while (!full()) {
      const auto line = lines.next();
      if (!line) return;
      if (is_blank(*line)) lines.fail("empty line where a source, a tab and a target were expected");
      const std::size_t tab = line->find('\t');
      if (const auto tabs = std::ranges::count(*line, '\t'); tabs != 1)
        lines.fail(fmt::format("one tab between source and target was expected, found {}", tabs));
      if (is_blank(line->substr(0, tab))) lines.fail("the source before the tab is empty");
      if (is_blank(line->substr(tab + 1))) lines.fail("the target after the tab is empty");
      add(lines, line->substr(0, tab), lines, line->substr(tab + 1));
    }
  }

  [[noreturn]] static void refuse_lengths(const LineReader& shorter, LineReader& longer) {
    const std::int64_t first_without = longer.line();
    while (longer.next()) {
    }
    throw DataError(fmt::format("{}:{}: the file ends before this line: it has {} lines, {} has {}; they must be equal",
                                shorter.path(), first_without, shorter.line(), longer.path(), longer.line()));
  }

  void read_jsonl(const std::string& path) {
    LineReader lines(path);
    while (!full()) {
      const auto line = lines.next();
      if (!line) return;
      if (is_blank(*line)) lines.fail("empty line where a JSON object was expected");
      const nlohmann::json object = parse(lines, *line);
      const std::string& source = value(lines, object, options_.source_key);
      const std::string& target = value(lines, object, options_.target_key);
      add(lines, source, lines, target);
    }
  }

  static nlohmann::json parse(const LineReader& lines, std::string_view line) {
    try {
      return nlohmann::json::parse(line);
    } catch (const nlohmann::json::exception& error) {
      lines.fail(fmt::format("bad JSON: {}", error.what()));
    }
  }

  static const std::string& value(const LineReader& lines, const nlohmann::json& object, const std::string& key) {
    const nlohmann::json* place = &object;
    for (std::size_t begin = 0; begin <= key.size();) {
      const std::size_t end = std::min(key.find('.', begin), key.size());
      const std::string name = key.substr(begin, end - begin);
      if (!place->is_object()) {
        lines.fail(fmt::format("looking for \"{}\": an object with \"{}\" was expected, found {}", key, name,
                               place->type_name()));
      }
      const auto found = place->find(name);
      if (found == place->end()) lines.fail(fmt::format("looking for \"{}\": there is no key \"{}\"", key, name));
      place = &*found;
      begin = end + 1;
    }
    if (!place->is_string()) {
      lines.fail(fmt::format("\"{}\": a string was expected, found {}", key, place->type_name()));
    }
    const auto& text = place->get_ref<const std::string&>();
    if (is_blank(text)) lines.fail(fmt::format("\"{}\" is empty", key));
    return text;
  }

  void add(const LineReader& source_lines, std::string_view source, const LineReader& target_lines,
           std::string_view target) {
    const auto source_ids = cut(tokenizer_.encode(options_.source_prefix + std::string(source)),
                                options_.max_source_length, examples_.truncated_sources_);
    const auto target_ids = cut(tokenizer_.encode(target), options_.max_target_length, examples_.truncated_targets_);
    check(source_lines, source_ids);
    check(target_lines, target_ids);
    examples_.longest_source_ = std::max(examples_.longest_source_, static_cast<std::int64_t>(source_ids.size()));
    examples_.longest_target_ = std::max(examples_.longest_target_, static_cast<std::int64_t>(target_ids.size()));
    examples_.sources_.append(source_ids);
    examples_.targets_.append(target_ids);
    if (options_.keep_text) {
      examples_.source_texts_.append(source);
      examples_.target_texts_.append(target);
    }
  }

  void check(const LineReader& lines, const std::vector<std::int32_t>& ids) const {
    if (options_.vocabulary == 0) return;
    for (const std::int32_t id : ids)
      if (id >= options_.vocabulary)
        lines.fail(fmt::format("the tokenizer gives id {}, but the model's vocab_size is {}", id, options_.vocabulary));
  }

  std::vector<std::int32_t> cut(std::vector<std::int32_t> ids, std::int64_t longest, std::int64_t& truncated) const {
    const auto room = static_cast<std::size_t>(longest - 1);
    if (ids.size() > room) {
      ids.resize(room);
      ++truncated;
    }
    ids.push_back(tokenizer_.eos_id());
    return ids;
  }

  const ExamplesOptions& options_;
  const Tokenizer& tokenizer_;
  Examples examples_;
};

Examples Examples::read(const ExamplesOptions& options, const Tokenizer& tokenizer) {
  return ExamplesReader(options, tokenizer).read();
}

std::size_t Examples::bytes() const noexcept {
  return sources_.bytes() + targets_.bytes() + source_texts_.bytes() + target_texts_.bytes();
}

std::string_view Examples::text(const PackedLists<char>& texts, std::int64_t index) const {
  if (texts.size() == 0) throw Error("the texts of these examples were not kept (ExamplesOptions::keep_text)");
  const auto characters = texts[index];
  return {characters.data(), characters.size()};
}

}  // namespace spillway::data
