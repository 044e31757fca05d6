// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::data {

/// The strings that stand for one token wherever they occur in a text, as transformers treats them: `</s>`, `<pad>`,
/// `<unk>` and the sentinels `<extra_id_0>`, `<extra_id_1>`, ... What lies between them is tokenized piece by piece.
class SpecialTokens {
 public:
  /// A part of a text: a special token if it has an id, otherwise plain text (never empty).
  struct Part {
    std::string_view text;
    std::optional<std::int32_t> id;
  };

  /// \param text  begins with '<', ends with '>' and has neither in between
  void add(std::string text, std::int32_t id);

  /// The parts of `text` in order; they view into it.
  [[nodiscard]] std::vector<Part> split(std::string_view text) const;

 private:
  std::map<std::string, std::int32_t, std::less<>> ids_;
};

}  // namespace spillway::data
