// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/layout.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "core/round_up.hpp"
#include "core/shard_map.hpp"

namespace spillway::checkpoint {
namespace {

/// Cuts a range of the tensor below `axis`; `prefix` is where that lies on the axes before.
class BoxCutter {
 public:
  explicit BoxCutter(std::vector<std::int64_t> extents) : extents_(std::move(extents)), prefix_(extents_.size(), 0) {}

  void cut(std::size_t axis, std::int64_t begin, std::int64_t end) {
    std::int64_t row = 1;
    for (std::size_t i = axis + 1; i < extents_.size(); ++i) row *= extents_[i];
    if (begin % row != 0) {
      const std::int64_t row_end = std::min(end, round_up(begin, row));
      inside_row(axis, row, begin, row_end);
      begin = row_end;
    }
    if (const std::int64_t whole = (end - begin) / row; whole > 0) {
      add(axis, begin / row, whole, whole * row);
      begin += whole * row;
    }
    if (begin < end) inside_row(axis, row, begin, end);
  }

  std::vector<Box> take() { return std::move(boxes_); }

 private:
  void inside_row(std::size_t axis, std::int64_t row, std::int64_t begin, std::int64_t end) {
    const std::int64_t index = begin / row;
    prefix_[axis] = index;
    cut(axis + 1, begin - index * row, end - index * row);
    prefix_[axis] = 0;
  }

  void add(std::size_t axis, std::int64_t first, std::int64_t count, std::int64_t elements) {
    Box box{prefix_, std::vector<std::int64_t>(extents_.size(), 1), elements};
    box.start[axis] = first;
    box.count[axis] = count;
    for (std::size_t i = axis + 1; i < extents_.size(); ++i) box.count[i] = extents_[i];
    boxes_.push_back(std::move(box));
  }

  std::vector<std::int64_t> extents_;
  std::vector<std::int64_t> prefix_;
  std::vector<Box> boxes_;
};

}  // namespace

std::string step_name(std::int64_t step) { return fmt::format("step-{:09}", step); }

std::optional<std::int64_t> step_of_name(std::string_view name) {
  constexpr std::string_view kPrefix = "step-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || stop != end || step < 0 || step_name(step) != name) return std::nullopt;
  return step;
}

std::string rank_file_name(int piece, int ranks) { return fmt::format("rank-{:05}-of-{:05}.h5", piece, ranks); }

std::string dataset_name(const std::string& kind, int unit) { return fmt::format("/{}/unit-{:03}", kind, unit); }

std::string hash_dataset_name(const std::string& kind, int unit) { return "/hash" + dataset_name(kind, unit); }

std::int64_t dataset_elements(std::int64_t shard_elements) noexcept {
  constexpr auto kMultiple = static_cast<std::int64_t>(kAlignment / sizeof(float));
  return round_up(shard_elements, kMultiple);
}

std::vector<Box> boxes(const Shape& shape, std::int64_t begin, std::int64_t end) {
  std::vector<std::int64_t> extents;
  for (int axis = 0; axis < shape.rank(); ++axis) extents.push_back(shape[axis]);
  if (extents.empty()) extents.push_back(1);
  if (begin >= end) return {};
  BoxCutter cutter(std::move(extents));
  cutter.cut(0, begin, end);
  return cutter.take();
}

}  // namespace spillway::checkpoint
