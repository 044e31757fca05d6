// SPDX-License-Identifier: Apache-2.0
// Private to src/checkpoint: the only header that includes hdf5.h.
#pragma once

#include <cstdint>
#include <mutex>
#include <source_location>
#include <span>
#include <string>
#include <type_traits>

#include <hdf5.h>

#include "core/unique_handle.hpp"

namespace spillway::checkpoint::hdf5 {

/// The right to call HDF5. The library is one for the process and not thread-safe, and ranks may be threads: hold a
/// session for as long as any handle lives (declare it first). Turns HDF5's own printing of errors off.
class Session {
 public:
  Session();

 private:
  std::unique_lock<std::mutex> lock_;
};

/// Logs, for destructors. \param call  "H5Dclose"
void log_failed_close(const char* call) noexcept;

template <auto close>
struct Traits {
  using Handle = hid_t;
  static Handle null() noexcept { return H5I_INVALID_HID; }
  static void destroy(Handle handle) noexcept {
    if (close(handle) < 0) log_failed_close("closing a handle");
  }
};
using File = UniqueHandle<Traits<H5Fclose>>;
using Group = UniqueHandle<Traits<H5Gclose>>;
using Dataset = UniqueHandle<Traits<H5Dclose>>;
using Dataspace = UniqueHandle<Traits<H5Sclose>>;
using Datatype = UniqueHandle<Traits<H5Tclose>>;
using Attribute = UniqueHandle<Traits<H5Aclose>>;
using PropertyList = UniqueHandle<Traits<H5Pclose>>;
using Driver = UniqueHandle<Traits<H5FDunregister>>;

/// \throws IoError: call, object, and HDF5's own reason
[[noreturn]] void fail(const char* call, const std::string& object, std::source_location where);

/// Passes `result` on unless it is negative (or undefined, for an address).
/// \param object  the file, then the dataset or attribute: "rank-00000-of-00002.h5, /master/unit-000"
template <typename T>
T check(T result, const char* call, const std::string& object,
        std::source_location where = std::source_location::current()) {
  if constexpr (std::is_signed_v<T>) {
    if (result < 0) fail(call, object, where);
  } else {
    if (result == static_cast<T>(HADDR_UNDEF)) fail(call, object, where);
  }
  return result;
}

/// Opens a file on disk for reading. No file locks: the folder's rename is what commits.
[[nodiscard]] File open_file(const std::string& path);

/// Without times, as every object in our files: the same state gives the same bytes.
[[nodiscard]] Group create_group(hid_t parent, const std::string& name, const std::string& path);
/// Creates the groups that `name`, "a/b/dataset", lies in and that are not there yet.
void create_groups_above(hid_t file, const std::string& name, const std::string& path);
[[nodiscard]] Dataspace simple_space(std::span<const hsize_t> extents);

/// Attributes of an object, scalars: 64-bit integers and variable-length UTF-8.
void write_attribute(hid_t object, const std::string& name, std::int64_t value, const std::string& path);
void write_attribute(hid_t object, const std::string& name, const std::string& text, const std::string& path);
[[nodiscard]] std::string read_text_attribute(hid_t object, const std::string& name, const std::string& path);

}  // namespace spillway::checkpoint::hdf5
