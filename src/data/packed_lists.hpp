// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace spillway::data {

/// Many short lists end to end in one array: no allocation and no header per list, only 8 bytes for its end.
template <typename T>
class PackedLists {
 public:
  void append(std::span<const T> list) {
    values_.insert(values_.end(), list.begin(), list.end());
    ends_.push_back(static_cast<std::int64_t>(values_.size()));
  }

  /// Gives back what appending took in advance.
  void shrink() {
    values_.shrink_to_fit();
    ends_.shrink_to_fit();
  }

  [[nodiscard]] std::int64_t size() const noexcept { return static_cast<std::int64_t>(ends_.size()); }

  /// 0 <= index < size(); valid until the next append() or shrink()
  [[nodiscard]] std::span<const T> operator[](std::int64_t index) const {
    const std::int64_t begin = index == 0 ? 0 : ends_[static_cast<std::size_t>(index - 1)];
    const std::int64_t end = ends_[static_cast<std::size_t>(index)];
    return std::span<const T>(values_).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  }

  /// Bytes of memory held.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return values_.capacity() * sizeof(T) + ends_.capacity() * sizeof(std::int64_t);
  }

 private:
  std::vector<T> values_;
  std::vector<std::int64_t> ends_;
};

}  // namespace spillway::data
