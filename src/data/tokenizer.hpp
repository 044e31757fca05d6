// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::data {

/// Text to token ids and back, as the T5 tokenizers of transformers do it. Immutable: any thread may use it.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Ids of `text` without the `</s>` at its end. `</s>`, `<pad>`, `<unk>` and the sentinels `<extra_id_k>` in the text
  /// are one token each, and what lies between them is tokenized by itself.
  [[nodiscard]] virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;

  /// Valid UTF-8. Leaves out padding, `</s>`, `<unk>`, sentinels and ids that have no text (transformers' skip_special_tokens).
  [[nodiscard]] virtual std::string decode(std::span<const std::int32_t> ids) const = 0;

  /// Every id that encode() can give is less than this; sentinels are counted. A model may have a larger vocabulary.
  [[nodiscard]] virtual std::int64_t vocabulary_size() const = 0;

  [[nodiscard]] virtual std::int32_t pad_id() const = 0;
  [[nodiscard]] virtual std::int32_t eos_id() const = 0;
};

/// T5's sentinels, unless tokenizer_config.json says otherwise under `extra_ids`.
inline constexpr std::int64_t kExtraIds = 100;

/// A tokenizer over a SentencePiece model (spiece.model). Ids are SentencePiece's own. Sentinel k is vocabulary_size() - 1 - k.
/// \param extra_ids  sentinels after the pieces; none if the model holds them as pieces itself (mT5)
/// \throws DataError that names the file if it cannot be read, is no model, or has no `<pad>` or `</s>`
[[nodiscard]] std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const std::string& path,
                                                                      std::int64_t extra_ids = kExtraIds);

/// ByT5's: a byte's id is its value + 3, after padding 0, `</s>` 1 and unknown 2; sentinel k is 259 + k; 384 ids.
[[nodiscard]] std::unique_ptr<Tokenizer> make_byte_tokenizer();

}  // namespace spillway::data
