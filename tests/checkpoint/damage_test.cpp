// SPDX-License-Identifier: Apache-2.0
// Bits that flip in a checkpoint: whoever verifies it or reads it says where.
#include "checkpoint/damage.hpp"

#include <array>
#include <fstream>
#include <random>

#include <gmock/gmock.h>

#include "checkpoint/fixtures.hpp"
#include "checkpoint/layout.hpp"
#include "checkpoint/reader.hpp"

namespace spillway::checkpoint {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr int kPlaces = 500;

void flip_bit(const std::string& path, std::uint64_t offset, int bit) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(static_cast<std::streamoff>(offset));
  const int byte = file.get();
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(static_cast<char>(byte ^ (1 << bit)));
  ASSERT_TRUE(file.flush()) << path;
}

/// What a byte of a file belongs to.
enum Region { kManifest, kMetadata, kValues, kPadding, kRegions };

Region region_of(CheckpointReader& reader, const std::string& folder, const std::string& name, std::uint64_t offset) {
  if (name == kManifestFile) return kManifest;
  if (name == kTensorFile) return kMetadata;
  const auto record = std::ranges::find(reader.files(), name, &FileRecord::name);
  for (const StoredDataset& dataset : read_datasets(folder, *record, reader.kinds())) {
    if (offset < dataset.offset || offset >= dataset.offset + dataset.bytes) continue;
    const std::int64_t elements = reader.layout(dataset.kind).shard_elements(dataset.unit);
    return offset - dataset.offset < static_cast<std::uint64_t>(elements) * sizeof(float) ? kValues : kPadding;
  }
  return kMetadata;
}

std::vector<std::string> problems_of(const std::string& folder) {
  PlainStorage storage;
  try {
    return CheckpointReader(folder).verify(storage);
  } catch (const DataError& error) {
    return {error.what()};
  }
}

/// What stops somebody who reads all of the state at another number of ranks.
std::string refusal(const std::string& folder) {
  const Layouts layouts(kinds_of(small_tensors()), 3);
  PlainStorage storage;
  return message_of<DataError>([&] {
    CheckpointReader reader(folder);
    for (int piece = 0; piece < 3; ++piece) {
      KeepingSink sink(layouts.kinds());
      reader.read_shard(piece, storage, sink);
    }
  });
}

TEST(Damage, AFlippedBitAnywhereIsNamedByVerifyAndKeepsReadersOut) {
  const ScratchFolder root;
  const std::string folder = save(root.path(), 1, small_tensors(), 2);
  CheckpointReader whole(folder);
  const std::vector<std::string> names = names_in(folder);
  std::array<int, kRegions> places{};
  std::mt19937_64 draw(8);  // NOLINT: the same places every time
  for (int i = 0; i < kPlaces; ++i) {
    const std::string& name = names[static_cast<std::size_t>(i) % names.size()];
    const std::string path = folder + "/" + name;
    const std::uint64_t offset = draw() % size_of_file(path);
    const int bit = static_cast<int>(draw() % 8);
    SCOPED_TRACE(testing::Message() << name << ", byte " << offset << ", bit " << bit);
    ++places[region_of(whole, folder, name, offset)];

    flip_bit(path, offset, bit);
    const std::vector<std::string> problems = problems_of(folder);
    const std::string read = refusal(folder);
    flip_bit(path, offset, bit);

    ASSERT_THAT(problems, SizeIs(1));
    EXPECT_THAT(problems.front(), AllOf(HasSubstr(path), HasSubstr(name == kManifestFile ? "" : "MiB 0")));
    EXPECT_THAT(read, HasSubstr(path));
  }
  EXPECT_THAT(places, Each(testing::Gt(kPlaces / 50)));
  EXPECT_THAT(problems_of(folder), IsEmpty());
}

TEST(Damage, OfABlockIsNamedWithTheTensorsInIt) {
  const ScratchFolder root;
  const std::string folder = save(root.path(), 1, small_tensors(), 1);
  CheckpointReader reader(folder);
  const StoredDataset dataset = read_datasets(folder, reader.files()[0], reader.kinds()).back();
  std::vector<std::string> names;
  for (const TensorSpec& tensor : small_tensors())
    if (tensor.unit == dataset.unit) names.push_back(tensor.name);
  flip_byte(dataset.path, dataset.offset + dataset.bytes - 1);

  const std::vector<std::string> problems = problems_of(folder);

  ASSERT_THAT(problems, SizeIs(1));
  for (const std::string& name : names) EXPECT_THAT(problems.front(), HasSubstr(name));
  EXPECT_THAT(refusal(folder), HasSubstr(names.front()));
}

}  // namespace
}  // namespace spillway::checkpoint
