// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/rank_file.hpp"

#include <algorithm>
#include <array>

#include <fcntl.h>
#include <fmt/format.h>

#include "checkpoint/damage.hpp"
#include "checkpoint/files.hpp"
#include "checkpoint/hash.hpp"
#include "checkpoint/hdf5.hpp"
#include "checkpoint/hdf5_image.hpp"
#include "checkpoint/layout.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

std::uint64_t blocks_of(std::uint64_t bytes) { return (bytes + kHashBlock - 1) / kHashBlock; }

std::string describe(const std::string& path, const std::string& dataset) {
  return fmt::format("{}, {}", path, dataset);
}

/// A contiguous dataset whose place in the file is settled now. No times, so that the same state gives the same file.
hdf5::Dataset create_dataset(hid_t file, const std::string& path, const std::string& name, hid_t type,
                             std::uint64_t elements) {
  using hdf5::check;
  const std::string what = describe(path, name);
  const hdf5::PropertyList creation(check(H5Pcreate(H5P_DATASET_CREATE), "H5Pcreate", what));
  check(H5Pset_layout(creation.get(), H5D_CONTIGUOUS), "H5Pset_layout", what);
  check(H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_EARLY), "H5Pset_alloc_time", what);
  check(H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER), "H5Pset_fill_time", what);
  check(H5Pset_obj_track_times(creation.get(), false), "H5Pset_obj_track_times", what);
  hdf5::create_groups_above(file, name, path);
  const hdf5::Dataspace space = hdf5::simple_space(std::array<hsize_t, 1>{elements});
  return hdf5::Dataset(check(
      H5Dcreate2(file, name.c_str(), type, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT), "H5Dcreate2", what));
}

/// A dataset of a file being written, and where its hashes belong.
struct NewDataset {
  StoredDataset stored;
  std::int64_t elements = 0;  // of the state; zeros follow
  std::uint64_t hashes_offset = 0;
};

std::vector<int> units_with_state(const ShardMap& layout) {
  std::vector<int> units;
  for (int unit = 0; unit < layout.units(); ++unit)
    if (layout.shard_elements(unit) > 0) units.push_back(unit);
  return units;
}

/// Lays the file out and makes it, so that all that is missing are the bulk bytes and the hashes.
std::vector<NewDataset> create_file(const std::string& path, std::int64_t step, int piece,
                                    const std::vector<StateKind>& kinds) {
  hdf5::FileImage image;
  const hdf5::Session session;
  hdf5::File file = hdf5::create_image(image, path);
  hdf5::write_attribute(file.get(), "format", std::string(kFormatName), path);
  hdf5::write_attribute(file.get(), "format_version", kFormatVersion, path);
  hdf5::write_attribute(file.get(), "step", step, path);
  hdf5::write_attribute(file.get(), "piece", std::int64_t{piece}, path);
  hdf5::write_attribute(file.get(), "world_size", std::int64_t{kinds.front().layout->ranks()}, path);
  std::vector<NewDataset> datasets;
  for (const auto& [kind, layout] : kinds) {
    for (const int unit : units_with_state(*layout)) {
      StoredDataset entry{path, dataset_name(kind, unit), kind, unit, 0, 0, {}};
      const std::int64_t used = layout->shard_elements(unit);
      const auto elements = static_cast<std::uint64_t>(dataset_elements(used));
      entry.bytes = elements * sizeof(float);
      const hdf5::Dataset dataset = create_dataset(file.get(), path, entry.name, H5T_IEEE_F32LE, elements);
      entry.offset = hdf5::check(H5Dget_offset(dataset.get()), "H5Dget_offset", describe(path, entry.name));
      const hdf5::Dataset hashes =
          create_dataset(file.get(), path, hash_dataset_name(kind, unit), H5T_STD_U64LE, blocks_of(entry.bytes));
      const auto hashes_offset = hdf5::check(H5Dget_offset(hashes.get()), "H5Dget_offset", describe(path, entry.name));
      datasets.push_back({std::move(entry), used, hashes_offset});
    }
  }
  hdf5::close_image(std::move(file), path);
  hdf5::write_image(image, path);
  return datasets;
}

void write_bulk(StoredDataset& dataset, std::int64_t elements, StateSource& source, BulkStorage& bulk,
                std::span<float> staging) {
  constexpr auto kBlockElements = static_cast<std::int64_t>(kHashBlock / sizeof(float));
  const std::int64_t window = static_cast<std::int64_t>(staging.size()) / kBlockElements * kBlockElements;
  const auto stored = static_cast<std::int64_t>(dataset.bytes / sizeof(float));
  for (std::int64_t begin = 0; begin < stored; begin += window) {
    const auto values = staging.first(static_cast<std::size_t>(std::min(window, stored - begin)));
    const auto used = static_cast<std::size_t>(
        std::clamp<std::int64_t>(elements - begin, 0, static_cast<std::int64_t>(values.size())));
    if (used > 0)
      source.read(dataset.kind, dataset.unit, {begin, begin + static_cast<std::int64_t>(used)}, values.first(used));
    std::ranges::fill(values.subspan(used), 0.0F);
    const auto bytes = std::as_bytes(values);
    append_block_hashes(bytes, dataset.hashes);
    bulk.write(dataset.path, dataset.offset + static_cast<std::uint64_t>(begin) * sizeof(float), bytes);
  }
}

void write_hashes(const std::string& path, const std::vector<NewDataset>& datasets) {
  const FileDescriptor file = open_file(path, O_WRONLY);
  for (const NewDataset& dataset : datasets)
    write_fully(file, path, dataset.hashes_offset, std::as_bytes(std::span(dataset.stored.hashes)));
}

/// Calls `gap(begin, end)` and `bulk(dataset)` for the regions of a file in order.
template <typename Gap, typename Bulk>
void for_each_region(std::uint64_t file_bytes, const std::vector<StoredDataset>& datasets, Gap gap, Bulk bulk) {
  std::uint64_t end = 0;
  for (const StoredDataset& dataset : datasets) {
    gap(end, dataset.offset);
    bulk(dataset);
    end = dataset.offset + dataset.bytes;
  }
  gap(end, file_bytes);
}

void sort_by_offset(std::vector<StoredDataset>& datasets) { std::ranges::sort(datasets, {}, &StoredDataset::offset); }

FileRecord record_of(const std::string& path, const std::string& name, const std::vector<StoredDataset>& datasets) {
  FileRecord record{name, size_of_file(path), 0, {}};
  const FileDescriptor file = open_file(path, O_RDONLY);
  std::vector<std::byte> block(kHashBlock);
  std::vector<std::uint64_t> hashes;
  const auto add_gap = [&](std::uint64_t begin, std::uint64_t end) {
    for (; begin < end; begin += kHashBlock) {
      const auto bytes = std::span(block).first(std::min<std::uint64_t>(kHashBlock, end - begin));
      read_fully(file, path, begin, bytes);
      record.metadata.push_back({begin, bytes.size(), hash_of(bytes)});
      hashes.push_back(record.metadata.back().hash);
    }
  };
  for_each_region(record.bytes, datasets, add_gap, [&](const StoredDataset& dataset) {
    hashes.insert(hashes.end(), dataset.hashes.begin(), dataset.hashes.end());
  });
  record.hash = hash_of_hashes(hashes);
  return record;
}

StoredDataset read_dataset(hid_t file, const std::string& path, std::uint64_t file_bytes, const std::string& kind,
                           int unit, std::int64_t elements) {
  using hdf5::check;
  // Before anything as large as the manifest says is allocated.
  if (static_cast<std::uint64_t>(dataset_elements(elements)) > file_bytes / sizeof(float))
    throw Damage(fmt::format("{}, {}: the manifest's tensors ask for {} elements, the file has {} bytes", path,
                             dataset_name(kind, unit), dataset_elements(elements), file_bytes));
  StoredDataset entry{path, dataset_name(kind, unit), kind, unit, 0, 0, {}};
  entry.bytes = static_cast<std::uint64_t>(dataset_elements(elements)) * sizeof(float);
  const std::string what = describe(path, entry.name);
  const auto open = [&](const std::string& name, std::uint64_t bytes) {
    hdf5::Dataset dataset(check(H5Dopen2(file, name.c_str(), H5P_DEFAULT), "H5Dopen2", what));
    const auto found = H5Dget_storage_size(dataset.get());
    if (found != bytes) throw Damage(fmt::format("{}, {}: {} bytes, expected {}", path, name, found, bytes));
    return dataset;
  };
  const hdf5::Dataset dataset = open(entry.name, entry.bytes);
  entry.offset = check(H5Dget_offset(dataset.get()), "H5Dget_offset", what);
  entry.hashes.resize(blocks_of(entry.bytes));
  const hdf5::Dataset hashes = open(hash_dataset_name(kind, unit), entry.hashes.size() * sizeof(std::uint64_t));
  check(H5Dread(hashes.get(), H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, entry.hashes.data()), "H5Dread", what);
  return entry;
}

}  // namespace

std::uint64_t StoredDataset::block_bytes(std::size_t block) const {
  return std::min<std::uint64_t>(kHashBlock, bytes - block * kHashBlock);
}

FileRecord write_rank_file(const std::string& folder, std::int64_t step, int piece, StateSource& source,
                           BulkStorage& bulk, std::span<float> staging) {
  const std::vector<StateKind> kinds = source.kinds();
  const std::string name = rank_file_name(piece, kinds.at(0).layout->ranks());
  const std::string path = folder + "/" + name;
  std::vector<NewDataset> created = create_file(path, step, piece, kinds);
  // All kinds of a unit together, as units are updated: what is copied first may change first.
  std::ranges::stable_sort(created, {}, [](const NewDataset& dataset) { return dataset.stored.unit; });
  try {
    for (NewDataset& dataset : created) write_bulk(dataset.stored, dataset.elements, source, bulk, staging);
  } catch (...) {
    try {
      bulk.finish(path);
    } catch (const std::exception&) {  // the first failure is the one to report
    }
    throw;
  }
  bulk.finish(path);
  write_hashes(path, created);
  sync_path(path);
  std::vector<StoredDataset> datasets;
  for (NewDataset& dataset : created) datasets.push_back(std::move(dataset.stored));
  sort_by_offset(datasets);
  return record_of(path, name, datasets);
}

FileRecord record_of_metadata_file(const std::string& folder, const std::string& name) {
  return record_of(folder + "/" + name, name, {});
}

void check_metadata(const std::string& folder, const FileRecord& record) {
  const std::string path = folder + "/" + record.name;
  FileDescriptor file;
  std::uint64_t found_bytes = 0;
  try {
    found_bytes = size_of_file(path);
    file = open_file(path, O_RDONLY);
  } catch (const IoError& error) {
    throw Damage(error.what());
  }
  if (found_bytes != record.bytes)
    throw Damage(fmt::format("{}: {} bytes, expected {}", path, found_bytes, record.bytes));
  std::vector<std::byte> block(kHashBlock);
  for (const MetadataRegion& region : record.metadata) {
    if (region.bytes > kHashBlock || region.offset > record.bytes || region.bytes > record.bytes - region.offset)
      throw Damage(fmt::format("{}: the manifest has metadata outside the file: {} bytes at {}", path, region.bytes,
                               region.offset));
    const auto bytes = std::span(block).first(region.bytes);
    read_fully(file, path, region.offset, bytes);
    if (const std::uint64_t found = hash_of(bytes); found != region.hash)
      throw Damage(fmt::format("{}: MiB {} (metadata, bytes {} to {}) is damaged: hash {}, expected {}", path,
                               region.offset / kHashBlock, region.offset, region.offset + region.bytes,
                               hash_text(found), hash_text(region.hash)));
  }
}

std::vector<StoredDataset> read_datasets(const std::string& folder, const FileRecord& record,
                                         const std::vector<StateKind>& kinds) {
  const std::string path = folder + "/" + record.name;
  std::vector<StoredDataset> datasets;
  {
    const hdf5::Session session;
    const hdf5::File file = hdf5::open_file(path);
    for (const auto& [kind, layout] : kinds)
      for (const int unit : units_with_state(*layout))
        datasets.push_back(read_dataset(file.get(), path, record.bytes, kind, unit, layout->shard_elements(unit)));
  }
  sort_by_offset(datasets);

  std::vector<std::uint64_t> hashes;
  auto region = record.metadata.begin();
  const auto match_gap = [&](std::uint64_t begin, std::uint64_t end) {
    for (; begin < end && region != record.metadata.end() && region->offset == begin && region->bytes > 0; ++region) {
      begin += region->bytes;
      hashes.push_back(region->hash);
    }
    if (begin != end) throw Damage(fmt::format("{}: the manifest does not cover bytes {} to {}", path, begin, end));
  };
  for_each_region(record.bytes, datasets, match_gap, [&](const StoredDataset& dataset) {
    hashes.insert(hashes.end(), dataset.hashes.begin(), dataset.hashes.end());
  });
  if (const std::uint64_t found = hash_of_hashes(hashes); found != record.hash)
    throw Damage(
        fmt::format("{}: hash {} over the file's hashes, expected {}", path, hash_text(found), hash_text(record.hash)));
  return datasets;
}

}  // namespace spillway::checkpoint
