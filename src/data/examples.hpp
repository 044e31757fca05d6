// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/packed_lists.hpp"
#include "data/tokenizer.hpp"

namespace spillway::data {

/// Where the pairs are and how they become tokens.
struct ExamplesOptions {
  /// Each BASE of BASE.source + BASE.target, a .jsonl file or a .tsv file (source, tab, target); read in this order.
  std::vector<std::string> paths = {};
  std::string source_key = "source";  ///< of a .jsonl file; dots go inside: "translation.en"
  std::string target_key = "target";
  std::string source_prefix = {};        ///< put in front of every source before it is tokenized
  std::int64_t max_source_length = 128;  ///< tokens, </s> included; longer is truncated and counted
  std::int64_t max_target_length = 128;
  std::int64_t max_samples = 0;  ///< the first so many; 0: all
  std::int64_t vocabulary = 0;   ///< ids of the model; a token beyond them is refused; 0: any may come
  bool keep_text = true;         ///< false: source_text() and target_text() are not available (training)
};

/// The tokenized pairs of one data set, in the order of the files. Immutable and wholly in memory.
class Examples {
 public:
  /// Every sequence ends with `</s>`, also a truncated one (as transformers truncates). Lines after `max_samples` are
  /// not tokenized; those of a BASE that was begun are still counted.
  /// \throws DataError that names file and line: file missing, no pairs at all, source or target blank, not UTF-8,
  ///         source and target of different length, a token that the model does not know; in .jsonl bad JSON, a key
  ///         missing, its value not a string; in .tsv not exactly one tab.
  ///         ConfigError if a maximal length is below 1
  [[nodiscard]] static Examples read(const ExamplesOptions& options, const Tokenizer& tokenizer);

  [[nodiscard]] std::int64_t size() const noexcept { return sources_.size(); }

  /// Token ids of pair `index`, `</s>` at the end. 0 <= index < size()
  [[nodiscard]] std::span<const std::int32_t> source(std::int64_t index) const { return sources_[index]; }
  [[nodiscard]] std::span<const std::int32_t> target(std::int64_t index) const { return targets_[index]; }

  /// The texts as they were read: without the prefix, whole also where the tokens were truncated. Needs keep_text.
  /// \throws Error if the texts were not kept
  [[nodiscard]] std::string_view source_text(std::int64_t index) const { return text(source_texts_, index); }
  [[nodiscard]] std::string_view target_text(std::int64_t index) const { return text(target_texts_, index); }

  /// How many were longer than their maximum.
  [[nodiscard]] std::int64_t truncated_sources() const noexcept { return truncated_sources_; }
  [[nodiscard]] std::int64_t truncated_targets() const noexcept { return truncated_targets_; }

  /// Tokens of the longest source and target, `</s>` included.
  [[nodiscard]] std::int64_t longest_source() const noexcept { return longest_source_; }
  [[nodiscard]] std::int64_t longest_target() const noexcept { return longest_target_; }

  /// Bytes of memory held, for the ledger.
  [[nodiscard]] std::size_t bytes() const noexcept;

 private:
  friend class ExamplesReader;
  Examples() = default;
  [[nodiscard]] std::string_view text(const PackedLists<char>& texts, std::int64_t index) const;

  PackedLists<std::int32_t> sources_;
  PackedLists<std::int32_t> targets_;
  PackedLists<char> source_texts_;
  PackedLists<char> target_texts_;
  std::int64_t truncated_sources_ = 0;
  std::int64_t truncated_targets_ = 0;
  std::int64_t longest_source_ = 0;
  std::int64_t longest_target_ = 0;
};

}  // namespace spillway::data
