// SPDX-License-Identifier: Apache-2.0
#include "core/tensor_view.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.hpp"

namespace spillway {

Shape::Shape(std::initializer_list<std::int64_t> extents)
    : Shape(std::span<const std::int64_t>(extents.begin(), extents.size())) {}

Shape::Shape(std::span<const std::int64_t> extents) {
  if (extents.size() > extents_.size())
    throw Error(fmt::format("a tensor has at most {} axes, found {}", extents_.size(), extents.size()));
  std::copy(extents.begin(), extents.end(), extents_.begin());
  rank_ = static_cast<int>(extents.size());
}

std::int64_t Shape::elements() const noexcept {
  std::int64_t product = 1;
  for (int axis = 0; axis < rank_; ++axis) product *= extents_[static_cast<std::size_t>(axis)];
  return product;
}

std::string Shape::text() const {
  return fmt::format("({})", fmt::join(extents_.begin(), extents_.begin() + rank_, ", "));
}

ConstTensorView ConstTensorView::rows(std::int64_t begin, std::int64_t end) const {
  if (shape_.rank() == 0 || begin < 0 || end < begin || end > shape_[0])
    throw Error(fmt::format("rows [{}, {}) of a tensor of shape {}", begin, end, shape_.text()));
  std::array<std::int64_t, 4> extents{};
  for (int axis = 0; axis < shape_.rank(); ++axis) extents[static_cast<std::size_t>(axis)] = shape_[axis];
  const std::int64_t row = shape_[0] == 0 ? 0 : elements() / shape_[0];
  extents[0] = end - begin;
  return {data_ + static_cast<std::size_t>(begin * row) * size_of(dtype_), dtype_,
          Shape(std::span<const std::int64_t>(extents.data(), static_cast<std::size_t>(shape_.rank())))};
}

ConstTensorView ConstTensorView::reshape(Shape shape) const {
  if (shape.elements() != elements())
    throw Error(fmt::format("shape {} cannot become {}", shape_.text(), shape.text()));
  return {data_, dtype_, shape};
}

ConstTensorView ConstTensorView::flat(std::int64_t begin, std::int64_t count) const {
  return reshape({elements()}).rows(begin, begin + count);
}

void ConstTensorView::require_dtype(DType wanted) const {
  if (wanted != dtype_)
    throw Error(
        fmt::format("tensor of shape {}: expected {}, found {}", shape_.text(), name_of(wanted), name_of(dtype_)));
}

void ConstTensorView::require_elements(std::int64_t found) const {
  if (elements() != found) throw Error(fmt::format("shape {} does not fit {} elements", shape_.text(), found));
}

}  // namespace spillway
