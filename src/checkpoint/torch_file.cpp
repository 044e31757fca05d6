// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/torch_file.hpp"

#include <algorithm>
#include <array>
#include <limits>

#include <fcntl.h>
#include <fmt/format.h>

#include "checkpoint/state_dict.hpp"
#include "checkpoint/stored_values.hpp"
#include "checkpoint/torch_container.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

/// Elements from one column to the next if the tensor is a transposed matrix, 0 if it is row-major.
/// \throws Error for any other order
std::int64_t column_step_of(const StateDictTensor& tensor) {
  if (std::ranges::find(tensor.shape, 0) != tensor.shape.end())
    return 0;  // and products of its other extents may overflow
  std::int64_t expected = 1;
  bool row_major = true;
  for (std::size_t axis = tensor.shape.size(); axis-- > 0;) {
    row_major = row_major && (tensor.shape[axis] == 1 || tensor.strides[axis] == expected);
    expected *= tensor.shape[axis];
  }
  if (row_major) return 0;
  if (tensor.shape.size() == 2 && tensor.strides[0] == 1 && tensor.strides[1] >= tensor.shape[0])
    return tensor.strides[1];
  throw Error(fmt::format("shape ({}) with strides ({}) is neither contiguous nor transposed: save it contiguous",
                          fmt::join(tensor.shape, ", "), fmt::join(tensor.strides, ", ")));
}

/// Where the tensor's last value ends in its storage, in elements. \throws Error if sizes overflow or are negative
std::int64_t end_of(const StateDictTensor& tensor) {
  std::int64_t last = tensor.offset;
  std::int64_t elements = 1;
  bool overflow = tensor.offset < 0 || tensor.shape.size() != tensor.strides.size();
  for (std::size_t axis = 0; axis < tensor.shape.size() && !overflow; ++axis) {
    std::int64_t step = 0;
    overflow = tensor.shape[axis] < 0 || tensor.strides[axis] < 0 ||
               __builtin_mul_overflow(elements, tensor.shape[axis], &elements) ||
               __builtin_mul_overflow(std::max<std::int64_t>(tensor.shape[axis] - 1, 0), tensor.strides[axis], &step) ||
               __builtin_add_overflow(last, step, &last);
  }
  if (overflow || last == std::numeric_limits<std::int64_t>::max())
    throw Error(fmt::format("shape ({}), strides ({}) and offset {} make no tensor", fmt::join(tensor.shape, ", "),
                            fmt::join(tensor.strides, ", "), tensor.offset));
  return elements == 0 ? 0 : last + 1;
}

}  // namespace

TorchFile::TorchFile(const std::string& path) : path_(path), file_(open_input(path)) {
  const TorchContainer container = read_torch_container(file_, path_);
  for (StateDictTensor& tensor : read_state_dict(container.pickle, path_)) {
    try {
      const auto storage = container.storages.find(tensor.storage);
      if (storage == container.storages.end()) throw Error(fmt::format("there is no storage {}", tensor.storage));
      const std::uint64_t size = bytes_of_dtype(tensor.dtype);
      std::uint64_t bytes = 0;
      if (tensor.storage_elements < 0 ||
          __builtin_mul_overflow(static_cast<std::uint64_t>(tensor.storage_elements), size, &bytes) ||
          bytes != storage->second.bytes)
        throw Error(fmt::format("storage {} has {} bytes, expected {} elements of {}", tensor.storage,
                                storage->second.bytes, tensor.storage_elements, tensor.dtype));
      const std::int64_t end = end_of(tensor);
      if (end > tensor.storage_elements)
        throw Error(fmt::format("it ends at element {} of storage {}, which has {}", end, tensor.storage,
                                tensor.storage_elements));
      places_.push_back({.offset = storage->second.offset + static_cast<std::uint64_t>(tensor.offset) * size,
                         .column_step = column_step_of(tensor)});
      add({.name = std::move(tensor.name), .dtype = tensor.dtype, .shape = std::move(tensor.shape)});
    } catch (const Error& error) {
      throw DataError(fmt::format("{}: tensor {}: {}", path_, tensor.name, error.what()));
    }
  }
}

bool TorchFile::same_storage(std::string_view a, std::string_view b) const {
  const std::size_t one = index_of(a), other = index_of(b);
  return places_[one] == places_[other] && tensors()[one].shape == tensors()[other].shape &&
         tensors()[one].dtype == tensors()[other].dtype;
}

void TorchFile::read(std::string_view name, std::int64_t begin, std::span<float> to) const {
  const std::size_t index = index_of(name);
  const StoredTensor& tensor = tensors()[index];
  const auto count = static_cast<std::int64_t>(to.size());
  if (begin < 0 || begin > tensor.elements() || count > tensor.elements() - begin)
    throw DataError(
        fmt::format("{}: tensor {}: elements {} to {} of {}", path_, name, begin, begin + count, tensor.elements()));
  if (!is_float_dtype(tensor.dtype))
    throw DataError(fmt::format("{}: tensor {}: dtype {}, expected F64, F32, F16 or BF16", path_, name, tensor.dtype));
  if (places_[index].column_step != 0) return read_transposed(tensor, places_[index], begin, to);
  read_floats(file_, path_, places_[index].offset + static_cast<std::uint64_t>(begin) * bytes_of_dtype(tensor.dtype),
              tensor.dtype, to);
}

/// Each column is contiguous: of every column the rows are read that the slice touches, some thousand at a time.
void TorchFile::read_transposed(const StoredTensor& tensor, const Place& place, std::int64_t begin,
                                std::span<float> to) const {
  constexpr std::int64_t kRows = 4096;
  const std::int64_t columns = tensor.shape[1];
  const std::int64_t end = begin + static_cast<std::int64_t>(to.size());
  std::array<float, kRows> part;
  for (std::int64_t row = begin / columns; row * columns < end; row += kRows) {
    const std::int64_t rows = std::min(kRows, (end + columns - 1) / columns - row);
    for (std::int64_t column = 0; column < columns; ++column) {
      const auto offset = static_cast<std::uint64_t>(column * place.column_step + row) * bytes_of_dtype(tensor.dtype);
      const auto values = std::span(part).first(static_cast<std::size_t>(rows));
      read_floats(file_, path_, place.offset + offset, tensor.dtype, values);
      for (std::int64_t i = 0; i < rows; ++i) {
        const std::int64_t element = (row + i) * columns + column;
        if (element >= begin && element < end)
          to[static_cast<std::size_t>(element - begin)] = values[static_cast<std::size_t>(i)];
      }
    }
  }
}

}  // namespace spillway::checkpoint
