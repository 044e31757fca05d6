// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace spillway::data {

/// The stem of an English word by Porter's algorithm (Program 14.3, 1980) with the changes of nltk's PorterStemmer in
/// its default mode NLTK_EXTENSIONS, which rouge-score uses.
/// \param word  lower-case ASCII letters and digits
[[nodiscard]] std::string porter_stem(std::string_view word);

}  // namespace spillway::data
