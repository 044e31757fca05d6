// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "data/special_tokens.hpp"
#include "data/tokenizer.hpp"
#include "data/utf8.hpp"

namespace spillway::data {
namespace {

constexpr std::int32_t kPad = 0;
constexpr std::int32_t kEos = 1;
constexpr std::int32_t kUnknown = 2;
constexpr std::int32_t kFirstByte = 3;
constexpr std::int32_t kFirstSentinel = kFirstByte + 256;
constexpr std::int32_t kSentinels = 125;

class ByteTokenizer : public Tokenizer {
 public:
  ByteTokenizer() {
    special_.add("<pad>", kPad);
    special_.add("</s>", kEos);
    special_.add("<unk>", kUnknown);
    for (std::int32_t k = 0; k < kSentinels; ++k) {
      special_.add("<extra_id_" + std::to_string(k) + ">", kFirstSentinel + k);
    }
  }

  std::vector<std::int32_t> encode(std::string_view text) const override {
    std::vector<std::int32_t> ids;
    ids.reserve(text.size() + 1);
    const auto parts = special_.split(text);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (parts[i].id) {
        ids.push_back(*parts[i].id);
        continue;
      }
      std::string_view plain = parts[i].text;
      if (i > 0 && takes_space(parts[i - 1])) plain = strip_start(plain);
      if (i + 1 < parts.size() && takes_space(parts[i + 1])) plain = strip_end(plain);
      for (const char byte : plain) ids.push_back(kFirstByte + static_cast<unsigned char>(byte));
    }
    return ids;
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text;
    text.reserve(ids.size());
    for (const std::int32_t id : ids) {
      if (id >= kFirstByte && id < kFirstSentinel) text += static_cast<char>(id - kFirstByte);
    }
    return drop_invalid_utf8(text);
  }

  std::int64_t vocabulary_size() const override { return kFirstSentinel + kSentinels; }
  std::int32_t pad_id() const override { return kPad; }
  std::int32_t eos_id() const override { return kEos; }

 private:
  /// ByT5Tokenizer's <pad>, </s> and <unk> swallow the white space around them; its sentinels do not.
  static bool takes_space(const SpecialTokens::Part& part) { return part.id && *part.id < kFirstByte; }

  SpecialTokens special_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_tokenizer() { return std::make_unique<ByteTokenizer>(); }

}  // namespace spillway::data
