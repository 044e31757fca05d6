// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/hdf5_image.hpp"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <span>

#include <fcntl.h>

#include "checkpoint/files.hpp"

namespace spillway::checkpoint::hdf5 {
namespace {

/// What HDF5 keeps as the open file. `common` comes first: HDF5 sees only that.
struct OpenImage {
  H5FD_t common{};
  FileImage* image = nullptr;
  haddr_t end = 0;
};

OpenImage* open_image(H5FD_t* file) { return reinterpret_cast<OpenImage*>(file); }
const OpenImage* open_image(const H5FD_t* file) { return reinterpret_cast<const OpenImage*>(file); }

/// Calls `visit(page number, first byte in it, first byte in the transfer, count)` for the pages of a transfer.
template <typename Visit>
void for_each_page(haddr_t address, std::size_t size, Visit visit) {
  for (std::size_t done = 0; done < size;) {
    const std::uint64_t inside = (address + done) % kAlignment;
    const std::size_t count = std::min<std::size_t>(kAlignment - inside, size - done);
    visit((address + done) / kAlignment, inside, done, count);
    done += count;
  }
}

H5FD_t* image_open(const char*, unsigned, hid_t access, haddr_t) noexcept {
  const void* info = H5Pget_driver_info(access);
  if (info == nullptr) return nullptr;
  auto file = std::make_unique<OpenImage>();
  file->image = *static_cast<FileImage* const*>(info);
  return &file.release()->common;
}

herr_t image_close(H5FD_t* file) noexcept {
  const std::unique_ptr<OpenImage> owned(open_image(file));
  owned->image->bytes = owned->end;
  return 0;
}

herr_t image_query(const H5FD_t*, unsigned long* flags) noexcept {
  *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_AGGREGATE_SMALLDATA | H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
  return 0;
}

haddr_t image_end(const H5FD_t* file, H5FD_mem_t) noexcept { return open_image(file)->end; }

herr_t image_set_end(H5FD_t* file, H5FD_mem_t, haddr_t end) noexcept {
  open_image(file)->end = end;
  return 0;
}

herr_t image_read(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, std::size_t size, void* to) noexcept {
  const auto& pages = open_image(file)->image->pages;
  for_each_page(address, size, [&](std::uint64_t number, std::uint64_t inside, std::size_t done, std::size_t count) {
    const auto page = pages.find(number);
    if (page == pages.end()) std::memset(static_cast<std::byte*>(to) + done, 0, count);
    else std::memcpy(static_cast<std::byte*>(to) + done, page->second.data() + inside, count);
  });
  return 0;
}

herr_t image_write(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, std::size_t size, const void* from) noexcept {
  try {
    auto& pages = open_image(file)->image->pages;
    for_each_page(address, size, [&](std::uint64_t number, std::uint64_t inside, std::size_t done, std::size_t count) {
      std::memcpy(pages[number].data() + inside, static_cast<const std::byte*>(from) + done, count);
    });
    return 0;
  } catch (const std::exception&) {  // no memory; HDF5 reports the failed write
    return -1;
  }
}

/// HDF5's table of a file driver; what is not named is not needed.
const H5FD_class_t& driver_class() {
  static const H5FD_class_t driver = [] {
    H5FD_class_t made{};
    made.name = "spillway_image";
    made.maxaddr = HADDR_MAX - 1;
    made.fc_degree = H5F_CLOSE_WEAK;
    made.fapl_size = sizeof(FileImage*);
    made.open = image_open;
    made.close = image_close;
    made.query = image_query;
    made.get_eoa = image_end;
    made.set_eoa = image_set_end;
    made.get_eof = image_end;
    made.read = image_read;
    made.write = image_write;
    constexpr H5FD_mem_t kOneList[] = H5FD_FLMAP_SINGLE;
    std::ranges::copy(kOneList, made.fl_map);
    return made;
  }();
  return driver;
}

}  // namespace

File create_image(FileImage& image, const std::string& path) {
  const Driver driver(check(H5FDregister(&driver_class()), "H5FDregister", path));
  const PropertyList access(check(H5Pcreate(H5P_FILE_ACCESS), "H5Pcreate", path));
  FileImage* target = &image;
  check(H5Pset_driver(access.get(), driver.get(), &target), "H5Pset_driver", path);
  check(H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110), "H5Pset_libver_bounds", path);
  check(H5Pset_alignment(access.get(), kAlignment, kAlignment), "H5Pset_alignment", path);
  const PropertyList creation(check(H5Pcreate(H5P_FILE_CREATE), "H5Pcreate", path));
  check(H5Pset_obj_track_times(creation.get(), false), "H5Pset_obj_track_times", path);
  return File(check(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()), "H5Fcreate", path));
}

void close_image(File file, const std::string& path) {
  check(H5Fflush(file.get(), H5F_SCOPE_LOCAL), "H5Fflush", path);
  check(H5Fclose(file.release()), "H5Fclose", path);
}

void write_image(const FileImage& image, const std::string& path) {
  const FileDescriptor file = checkpoint::open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
  reserve_file(file, path, image.bytes);
  for (const auto& [number, page] : image.pages) {
    const std::uint64_t offset = number * kAlignment;
    if (offset < image.bytes)
      write_fully(file, path, offset, std::span(page).first(std::min<std::uint64_t>(kAlignment, image.bytes - offset)));
  }
}

}  // namespace spillway::checkpoint::hdf5
