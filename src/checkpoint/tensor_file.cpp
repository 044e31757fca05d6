// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/tensor_file.hpp"

#include <algorithm>
#include <ctime>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <xxhash.h>

#include "checkpoint/files.hpp"
#include "checkpoint/hdf5.hpp"
#include "checkpoint/hdf5_image.hpp"
#include "checkpoint/layout.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

using hdf5::check;
using Extents = std::vector<hsize_t>;

Extents extents_of(const Shape& shape) {
  Extents extents;
  for (int axis = 0; axis < shape.rank(); ++axis) extents.push_back(static_cast<hsize_t>(shape[axis]));
  if (extents.empty()) extents.push_back(1);
  return extents;
}

std::string hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  check(H5get_libversion(&major, &minor, &release), "H5get_libversion", "the library");
  return fmt::format("{}.{}.{}", major, minor, release);
}

std::string xxhash_version() {
  const unsigned version = XXH_versionNumber();
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

void write_facts(hid_t file, const std::string& path, int ranks, const TensorFileFacts& facts) {
  hdf5::write_attribute(file, "format", std::string(kFormatName), path);
  hdf5::write_attribute(file, "format_version", kFormatVersion, path);
  hdf5::write_attribute(file, "step", facts.step, path);
  hdf5::write_attribute(file, "world_size", std::int64_t{ranks}, path);
  hdf5::write_attribute(file, "metadata", facts.metadata, path);
  hdf5::write_attribute(file, "creator", facts.creator, path);
  hdf5::write_attribute(file, "hdf5_version", hdf5_version(), path);
  hdf5::write_attribute(file, "xxhash_version", xxhash_version(), path);
  hdf5::write_attribute(file, "time", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))), path);
}

/// Adds to `creation` where the elements [begin, begin + count) of the tensor lie in the dataset of one shard.
void map_piece(hid_t creation, const TensorSpec& tensor, const std::string& kind, const ShardMap& shards, int shard,
               std::int64_t begin, std::int64_t count, std::int64_t source_begin, const std::string& what) {
  const Extents extents = extents_of(tensor.shape);
  const std::string source_file = rank_file_name(shard, shards.ranks());
  const std::string source_name = dataset_name(kind, tensor.unit);
  const auto stored = static_cast<hsize_t>(dataset_elements(shards.shard_elements(tensor.unit)));
  for (const Box& box : boxes(tensor.shape, begin, begin + count)) {
    const Extents start(box.start.begin(), box.start.end());
    const Extents size(box.count.begin(), box.count.end());
    const hdf5::Dataspace whole = hdf5::simple_space(extents);
    check(H5Sselect_hyperslab(whole.get(), H5S_SELECT_SET, start.data(), nullptr, size.data(), nullptr),
          "H5Sselect_hyperslab", what);
    const hdf5::Dataspace source = hdf5::simple_space({{stored}});
    const auto source_start = static_cast<hsize_t>(source_begin);
    const auto source_count = static_cast<hsize_t>(box.elements);
    check(H5Sselect_hyperslab(source.get(), H5S_SELECT_SET, &source_start, nullptr, &source_count, nullptr),
          "H5Sselect_hyperslab", what);
    check(H5Pset_virtual(creation, whole.get(), source_file.c_str(), source_name.c_str(), source.get()),
          "H5Pset_virtual", what);
    source_begin += box.elements;
  }
}

void create_virtual_dataset(hid_t group, const std::string& path, const std::string& kind, const TensorSpec& tensor,
                            const ShardMap& shards) {
  const std::string what = fmt::format("{}, /{}/{}", path, kind, tensor.name);
  const hdf5::PropertyList creation(check(H5Pcreate(H5P_DATASET_CREATE), "H5Pcreate", what));
  check(H5Pset_obj_track_times(creation.get(), false), "H5Pset_obj_track_times", what);
  for (int rank = 0; rank < shards.ranks(); ++rank) {
    const Range shard = shards.shard(tensor.unit, rank);
    const std::int64_t begin = std::max(shard.begin, tensor.offset);
    const std::int64_t end = std::min(shard.end, tensor.offset + tensor.shape.elements());
    if (begin < end)
      map_piece(creation.get(), tensor, kind, shards, rank, begin - tensor.offset, end - begin, begin - shard.begin,
                what);
  }
  const hdf5::Dataspace space = hdf5::simple_space(extents_of(tensor.shape));
  const hdf5::Dataset dataset(check(
      H5Dcreate2(group, tensor.name.c_str(), H5T_IEEE_F32LE, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT),
      "H5Dcreate2", what));
}

}  // namespace

void write_tensor_file(const std::string& folder, const std::vector<StateKind>& kinds, const TensorFileFacts& facts) {
  const std::string path = folder + "/" + std::string(kTensorFile);
  {
    hdf5::FileImage image;
    const hdf5::Session session;
    hdf5::File file = hdf5::create_image(image, path);
    write_facts(file.get(), path, kinds.at(0).layout->ranks(), facts);
    for (const auto& [kind, layout] : kinds) {
      const hdf5::Group group = hdf5::create_group(file.get(), kind, path);
      for (const TensorSpec& tensor : layout->tensors())
        create_virtual_dataset(group.get(), path, kind, tensor, *layout);
    }
    hdf5::close_image(std::move(file), path);
    hdf5::write_image(image, path);
  }
  sync_path(path);
}

std::string read_tensor_file_metadata(const std::string& folder) {
  const std::string path = folder + "/" + std::string(kTensorFile);
  const hdf5::Session session;
  const hdf5::File file = hdf5::open_file(path);
  return hdf5::read_text_attribute(file.get(), "metadata", path);
}

}  // namespace spillway::checkpoint
