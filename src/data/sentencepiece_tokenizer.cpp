// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include "core/error.hpp"
#include "data/special_tokens.hpp"
#include "data/tokenizer.hpp"

namespace spillway::data {
namespace {

void check(const sentencepiece::util::Status& status, std::string_view what) {
  if (!status.ok()) throw DataError(fmt::format("{}: {}", what, status.ToString()));
}

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(const std::string& path, std::int64_t extra_ids) {
    check(processor_.Load(path), path + ": not a SentencePiece model that can be read");
    pieces_ = processor_.GetPieceSize();
    if (processor_.pad_id() < 0 || processor_.eos_id() < 0) {
      throw DataError(
          fmt::format("{}: T5 needs the pieces <pad> and </s>, their ids here are {} and {} (train with "
                      "--pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1)",
                      path, processor_.pad_id(), processor_.eos_id()));
    }
    special_.add("<pad>", processor_.pad_id());
    special_.add("</s>", processor_.eos_id());
    special_.add("<unk>", processor_.unk_id());
    const bool holds_sentinels = has_piece("<extra_id_0>") || has_piece("▁<extra_id_0>");
    if (!holds_sentinels) sentinels_ = extra_ids;
    for (std::int64_t k = 0; k < sentinels_; ++k) {
      special_.add(fmt::format("<extra_id_{}>", k), static_cast<std::int32_t>(pieces_ + sentinels_ - 1 - k));
    }
  }

  std::vector<std::int32_t> encode(std::string_view text) const override {
    std::vector<std::int32_t> ids;
    std::vector<int> of_part;
    for (const auto& part : special_.split(text)) {
      if (part.id) {
        ids.push_back(*part.id);
        continue;
      }
      check(processor_.Encode(part.text, &of_part), "SentencePiece cannot encode");
      ids.insert(ids.end(), of_part.begin(), of_part.end());
    }
    return ids;
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    std::vector<int> with_text;
    with_text.reserve(ids.size());
    for (const std::int32_t id : ids) {
      // A model's vocabulary is often padded beyond the tokenizer's: such ids have no text. <unk> is left out as
      // transformers' skip_special_tokens does.
      const bool special = id == pad_id() || id == eos_id() || id == processor_.unk_id();
      if (id >= 0 && id < pieces_ && !special) with_text.push_back(id);
    }
    std::string text;
    check(processor_.Decode(with_text, &text), "SentencePiece cannot decode");
    return text;
  }

  std::int64_t vocabulary_size() const override { return pieces_ + sentinels_; }
  std::int32_t pad_id() const override { return processor_.pad_id(); }
  std::int32_t eos_id() const override { return processor_.eos_id(); }

 private:
  bool has_piece(std::string_view piece) const { return processor_.PieceToId(piece) != processor_.unk_id(); }

  sentencepiece::SentencePieceProcessor processor_;
  SpecialTokens special_;
  std::int64_t pieces_ = 0;
  std::int64_t sentinels_ = 0;
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const std::string& path, std::int64_t extra_ids) {
  return std::make_unique<SentencePieceTokenizer>(path, extra_ids);
}

}  // namespace spillway::data
