// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.hpp"

namespace spillway {

/// At most four extents in elements, row-major.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents);
  explicit Shape(std::span<const std::int64_t> extents);

  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] std::int64_t operator[](int axis) const { return extents_.at(static_cast<std::size_t>(axis)); }
  /// Product of the extents; 1 for a scalar.
  [[nodiscard]] std::int64_t elements() const noexcept;
  /// "(3, 24)"
  [[nodiscard]] std::string text() const;
  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<std::int64_t, 4> extents_{};
  int rank_ = 0;
};

/// A borrowed, dense, row-major, read-only tensor: pointer, dtype and shape. Copying it copies no data.
/// The pointer may be device memory; `as` is for host memory only.
class ConstTensorView {
 public:
  ConstTensorView() = default;
  ConstTensorView(const std::byte* data, DType dtype, Shape shape) : data_(data), dtype_(dtype), shape_(shape) {}
  template <typename T>
  ConstTensorView(std::span<const T> values, Shape shape)
      : ConstTensorView(reinterpret_cast<const std::byte*>(values.data()), dtype_of<T>, shape) {
    require_elements(static_cast<std::int64_t>(values.size()));
  }

  [[nodiscard]] const std::byte* data() const noexcept { return data_; }
  [[nodiscard]] DType dtype() const noexcept { return dtype_; }
  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
  [[nodiscard]] std::int64_t extent(int axis) const { return shape_[axis]; }
  [[nodiscard]] std::int64_t elements() const noexcept { return shape_.elements(); }
  [[nodiscard]] std::size_t bytes() const noexcept { return static_cast<std::size_t>(elements()) * size_of(dtype_); }
  /// False for a default-made view: the "not given" of optional tensors.
  explicit operator bool() const noexcept { return data_ != nullptr; }

  /// All elements in order. \throws Error if T is not the view's dtype
  template <typename T>
  [[nodiscard]] std::span<const T> as() const {
    require_dtype(dtype_of<T>);
    return {reinterpret_cast<const T*>(data_), static_cast<std::size_t>(elements())};
  }
  /// Rows [begin, end) along the first axis. \throws Error if out of range
  [[nodiscard]] ConstTensorView rows(std::int64_t begin, std::int64_t end) const;
  /// The same elements under another shape. \throws Error if the number of elements differs
  [[nodiscard]] ConstTensorView reshape(Shape shape) const;
  /// The elements [begin, begin + count) as one flat tensor.
  [[nodiscard]] ConstTensorView flat(std::int64_t begin, std::int64_t count) const;

 protected:
  void require_dtype(DType wanted) const;
  void require_elements(std::int64_t found) const;

 private:
  const std::byte* data_ = nullptr;
  DType dtype_ = DType::f32;
  Shape shape_;
};

/// A ConstTensorView whose elements may be written.
class TensorView : public ConstTensorView {
 public:
  TensorView() = default;
  TensorView(std::byte* data, DType dtype, Shape shape) : ConstTensorView(data, dtype, shape) {}
  template <typename T>
  TensorView(std::span<T> values, Shape shape)
      : TensorView(reinterpret_cast<std::byte*>(values.data()), dtype_of<T>, shape) {
    require_elements(static_cast<std::int64_t>(values.size()));
  }

  [[nodiscard]] std::byte* data() const noexcept { return const_cast<std::byte*>(ConstTensorView::data()); }
  template <typename T>
  [[nodiscard]] std::span<T> as() const {
    require_dtype(dtype_of<T>);
    return {reinterpret_cast<T*>(data()), static_cast<std::size_t>(elements())};
  }
  [[nodiscard]] TensorView rows(std::int64_t begin, std::int64_t end) const {
    return writable(ConstTensorView::rows(begin, end));
  }
  [[nodiscard]] TensorView reshape(Shape shape) const { return writable(ConstTensorView::reshape(shape)); }
  [[nodiscard]] TensorView flat(std::int64_t begin, std::int64_t count) const {
    return writable(ConstTensorView::flat(begin, count));
  }

 private:
  static TensorView writable(const ConstTensorView& view) {
    return {const_cast<std::byte*>(view.data()), view.dtype(), view.shape()};
  }
};

}  // namespace spillway
