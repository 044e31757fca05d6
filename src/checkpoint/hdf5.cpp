// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/hdf5.hpp"

#include <fmt/format.h>

#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway::checkpoint::hdf5 {
namespace {

std::mutex& library_mutex() {
  static std::mutex mutex;
  return mutex;
}

herr_t append_reason(unsigned, const H5E_error2_t* entry, void* text) noexcept {
  auto& reason = *static_cast<std::string*>(text);
  if (entry->desc != nullptr && entry->func_name != nullptr) {
    if (!reason.empty()) reason += "; ";
    reason.append(entry->func_name).append(": ").append(entry->desc);
  }
  return 0;
}

/// The error stack, innermost cause first, and clears it.
std::string take_reason() noexcept {
  std::string reason;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, append_reason, &reason);
  H5Eclear2(H5E_DEFAULT);
  return reason;
}

Datatype text_type(const std::string& object) {
  Datatype type(check(H5Tcopy(H5T_C_S1), "H5Tcopy", object));
  check(H5Tset_size(type.get(), H5T_VARIABLE), "H5Tset_size", object);
  check(H5Tset_cset(type.get(), H5T_CSET_UTF8), "H5Tset_cset", object);
  return type;
}

void write_scalar(hid_t object, const std::string& name, hid_t file_type, hid_t memory_type, const void* value,
                  const std::string& path) {
  const std::string what = fmt::format("{}, attribute {}", path, name);
  const Dataspace scalar(check(H5Screate(H5S_SCALAR), "H5Screate", what));
  const Attribute attribute(
      check(H5Acreate2(object, name.c_str(), file_type, scalar.get(), H5P_DEFAULT, H5P_DEFAULT), "H5Acreate2", what));
  check(H5Awrite(attribute.get(), memory_type, value), "H5Awrite", what);
}

}  // namespace

Session::Session() : lock_(library_mutex()) { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

void log_failed_close(const char* call) noexcept {
  log::error(fmt::format("HDF5: {} failed: {}", call, take_reason()));
}

void fail(const char* call, const std::string& object, std::source_location where) {
  throw IoError(fmt::format("{}: {} failed: {}", object, call, take_reason()), 0, where);
}

File open_file(const std::string& path) {
  const PropertyList access(check(H5Pcreate(H5P_FILE_ACCESS), "H5Pcreate", path));
  check(H5Pset_file_locking(access.get(), false, true), "H5Pset_file_locking", path);
  return File(check(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), "H5Fopen", path));
}

Group create_group(hid_t parent, const std::string& name, const std::string& path) {
  const std::string what = fmt::format("{}, /{}", path, name);
  const PropertyList creation(check(H5Pcreate(H5P_GROUP_CREATE), "H5Pcreate", what));
  check(H5Pset_obj_track_times(creation.get(), false), "H5Pset_obj_track_times", what);
  return Group(check(H5Gcreate2(parent, name.c_str(), H5P_DEFAULT, creation.get(), H5P_DEFAULT), "H5Gcreate2", what));
}

void create_groups_above(hid_t file, const std::string& name, const std::string& path) {
  for (std::size_t end = name.find('/', 1); end != std::string::npos; end = name.find('/', end + 1)) {
    const std::string group = name.substr(0, end);
    if (check(H5Lexists(file, group.c_str(), H5P_DEFAULT), "H5Lexists", path) == 0)
      (void)create_group(file, group, path);
  }
}

Dataspace simple_space(std::span<const hsize_t> extents) {
  return Dataspace(check(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr),
                         "H5Screate_simple", "a dataspace"));
}

void write_attribute(hid_t object, const std::string& name, std::int64_t value, const std::string& path) {
  write_scalar(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value, path);
}

void write_attribute(hid_t object, const std::string& name, const std::string& text, const std::string& path) {
  const Datatype type = text_type(path);
  const char* characters = text.c_str();
  write_scalar(object, name, type.get(), type.get(), &characters, path);
}

std::string read_text_attribute(hid_t object, const std::string& name, const std::string& path) {
  const std::string what = fmt::format("{}, attribute {}", path, name);
  const Attribute attribute(check(H5Aopen(object, name.c_str(), H5P_DEFAULT), "H5Aopen", what));
  const Datatype type = text_type(what);
  char* characters = nullptr;
  check(H5Aread(attribute.get(), type.get(), &characters), "H5Aread", what);
  std::string text = characters == nullptr ? "" : characters;
  H5free_memory(characters);
  return text;
}

}  // namespace spillway::checkpoint::hdf5
