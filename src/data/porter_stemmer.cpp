// SPDX-License-Identifier: Apache-2.0
#include "data/porter_stemmer.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

namespace spillway::data {
namespace {

/// Whether each letter is a consonant; y is one unless a consonant stands before it.
std::string classes(std::string_view word) {
  std::string found;
  for (const char letter : word) {
    const bool vowel = std::string_view("aeiou").find(letter) != std::string_view::npos ||
                       (letter == 'y' && !found.empty() && found.back() == 'c');
    found += vowel ? 'v' : 'c';
  }
  return found;
}

/// m in [C](VC){m}[V].
int measure(std::string_view stem) {
  const std::string letters = classes(stem);
  int count = 0;
  for (std::size_t i = 1; i < letters.size(); ++i) count += letters[i - 1] == 'v' && letters[i] == 'c' ? 1 : 0;
  return count;
}

bool has_vowel(std::string_view stem) { return classes(stem).find('v') != std::string::npos; }

/// *d
bool ends_in_double_consonant(std::string_view word) {
  return word.size() >= 2 && word.back() == word[word.size() - 2] && classes(word).back() == 'c';
}

/// *o: consonant, vowel, consonant other than w, x, y; nltk: a whole word of vowel and consonant too.
bool ends_cvc(std::string_view word) {
  const std::string letters = classes(word);
  if (word.size() == 2) return letters == "vc";
  return letters.ends_with("cvc") && std::string_view("wxy").find(word.back()) == std::string_view::npos;
}

std::string without(std::string_view word, std::size_t letters) {
  return std::string(word.substr(0, word.size() - letters));
}

struct Rule {
  std::string_view suffix, replacement;
  int more_than;  // the measure that the stem must have more than
};

/// The first rule whose suffix the word has decides, whether its condition holds or not.
std::string apply(std::string_view word, std::span<const Rule> rules) {
  const auto rule = std::ranges::find_if(rules, [&](const Rule& one) { return word.ends_with(one.suffix); });
  if (rule == rules.end()) return std::string(word);
  const std::string stem = without(word, rule->suffix.size());
  return measure(stem) > rule->more_than ? stem + std::string(rule->replacement) : std::string(word);
}

/// Plurals.
std::string step_1a(std::string_view word) {
  if (word.ends_with("ies") && word.size() == 4) return without(word, 1);
  static constexpr std::array<Rule, 4> kRules = {
      {{"sses", "ss", -1}, {"ies", "i", -1}, {"ss", "ss", -1}, {"s", "", -1}}};
  return apply(word, kRules);
}

/// -ed and -ing.
std::string step_1b(std::string_view word) {
  if (word.ends_with("ied")) return without(word, word.size() == 4 ? 1 : 2);
  if (word.ends_with("eed")) return measure(without(word, 3)) > 0 ? without(word, 1) : std::string(word);
  std::string stem;
  if (word.ends_with("ed") && has_vowel(without(word, 2))) stem = without(word, 2);
  else if (word.ends_with("ing") && has_vowel(without(word, 3))) stem = without(word, 3);
  else return std::string(word);

  if (stem.ends_with("at") || stem.ends_with("bl") || stem.ends_with("iz")) return stem + 'e';
  if (ends_in_double_consonant(stem))
    return std::string_view("lsz").find(stem.back()) == std::string_view::npos ? without(stem, 1) : stem;
  return measure(stem) == 1 && ends_cvc(stem) ? stem + 'e' : stem;
}

/// y after a consonant.
std::string step_1c(std::string_view word) {
  if (!word.ends_with("y")) return std::string(word);
  const std::string stem = without(word, 1);
  return stem.size() > 1 && classes(stem).back() == 'c' ? stem + 'i' : std::string(word);
}

std::string step_2(std::string_view word) {
  if (word.ends_with("alli") && measure(without(word, 4)) > 0) return step_2(without(word, 2));
  // The l of logi belongs to the stem, so that short stems such as geo count.
  if (word.ends_with("logi")) return measure(without(word, 3)) > 0 ? without(word, 1) : std::string(word);
  static constexpr std::array<Rule, 21> kRules = {
      {{"ational", "ate", 0}, {"tional", "tion", 0}, {"enci", "ence", 0}, {"anci", "ance", 0}, {"izer", "ize", 0},
       {"bli", "ble", 0},     {"alli", "al", 0},     {"entli", "ent", 0}, {"eli", "e", 0},     {"ousli", "ous", 0},
       {"ization", "ize", 0}, {"ation", "ate", 0},   {"ator", "ate", 0},  {"alism", "al", 0},  {"iveness", "ive", 0},
       {"fulness", "ful", 0}, {"ousness", "ous", 0}, {"aliti", "al", 0},  {"iviti", "ive", 0}, {"biliti", "ble", 0},
       {"fulli", "ful", 0}}};
  return apply(word, kRules);
}

std::string step_3(std::string_view word) {
  static constexpr std::array<Rule, 7> kRules = {{{"icate", "ic", 0},
                                                  {"ative", "", 0},
                                                  {"alize", "al", 0},
                                                  {"iciti", "ic", 0},
                                                  {"ical", "ic", 0},
                                                  {"ful", "", 0},
                                                  {"ness", "", 0}}};
  return apply(word, kRules);
}

std::string step_4(std::string_view word) {
  if (word.ends_with("ion")) {
    const std::string stem = without(word, 3);
    return measure(stem) > 1 && (stem.back() == 's' || stem.back() == 't') ? stem : std::string(word);
  }
  static constexpr std::array<Rule, 18> kRules = {{{"al", "", 1},
                                                   {"ance", "", 1},
                                                   {"ence", "", 1},
                                                   {"er", "", 1},
                                                   {"ic", "", 1},
                                                   {"able", "", 1},
                                                   {"ible", "", 1},
                                                   {"ant", "", 1},
                                                   {"ement", "", 1},
                                                   {"ment", "", 1},
                                                   {"ent", "", 1},
                                                   {"ou", "", 1},
                                                   {"ism", "", 1},
                                                   {"ate", "", 1},
                                                   {"iti", "", 1},
                                                   {"ous", "", 1},
                                                   {"ive", "", 1},
                                                   {"ize", "", 1}}};
  return apply(word, kRules);
}

/// A last e, and a double l.
std::string step_5(std::string_view word) {
  std::string stem(word);
  if (word.ends_with("e")) {
    const std::string rest = without(word, 1);
    const int m = measure(rest);
    if (m > 1 || (m == 1 && !ends_cvc(rest))) stem = rest;
  }
  return stem.ends_with("ll") && measure(without(stem, 1)) > 1 ? without(stem, 1) : stem;
}

}  // namespace

std::string porter_stem(std::string_view word) {
  using Form = std::pair<std::string_view, std::string_view>;
  static constexpr std::array<Form, 16> kIrregular = {{{"sky", "sky"},
                                                       {"skies", "sky"},
                                                       {"dying", "die"},
                                                       {"lying", "lie"},
                                                       {"tying", "tie"},
                                                       {"news", "news"},
                                                       {"innings", "inning"},
                                                       {"inning", "inning"},
                                                       {"outings", "outing"},
                                                       {"outing", "outing"},
                                                       {"cannings", "canning"},
                                                       {"canning", "canning"},
                                                       {"howe", "howe"},
                                                       {"proceed", "proceed"},
                                                       {"exceed", "exceed"},
                                                       {"succeed", "succeed"}}};
  for (const auto& [form, stem] : kIrregular)
    if (form == word) return std::string(stem);
  if (word.size() <= 2) return std::string(word);
  return step_5(step_4(step_3(step_2(step_1c(step_1b(step_1a(word)))))));
}

}  // namespace spillway::data
