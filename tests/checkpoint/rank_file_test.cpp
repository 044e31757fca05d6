// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/rank_file.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include "checkpoint/fixtures.hpp"
#include "checkpoint/hash.hpp"
#include "checkpoint/hdf5.hpp"
#include "checkpoint/layout.hpp"
#include "checkpoint/staging.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;

FileRecord write_example(const std::string& folder, const std::vector<StateKind>& kinds, int piece) {
  PatternSource source(kinds, piece);
  PlainStorage storage;
  const Staging staging(kHashBlock);
  return write_rank_file(folder, 5, piece, source, storage, staging.floats());
}

std::vector<float> read_whole(const std::string& path, const std::string& name, std::size_t elements) {
  std::vector<float> values(elements);
  const hdf5::Session session;
  const hdf5::File file = hdf5::open_file(path);
  const hdf5::Dataset dataset(H5Dopen2(file.get(), name.c_str(), H5P_DEFAULT));
  EXPECT_GE(H5Dread(dataset.get(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
  return values;
}

TEST(RankFile, Hdf5ReadsTheBytesThatWentAroundIt) {
  const ScratchFolder folder;
  const Layouts layouts(factored_kinds(), 2);
  write_example(folder.path(), layouts.kinds(), 1);

  for (const auto& [kind, layout] : layouts.kinds()) {
    for (int unit = 0; unit < layout->units(); ++unit) {
      const auto used = static_cast<std::size_t>(layout->shard_elements(unit));
      if (used == 0) continue;
      std::vector<float> expected(static_cast<std::size_t>(dataset_elements(layout->shard_elements(unit))), 0.0F);
      PatternSource(layouts.kinds(), 1)
          .read(kind, unit, {0, layout->shard_elements(unit)}, std::span(expected).first(used));
      EXPECT_TRUE(
          same_bits(read_whole(folder / "rank-00001-of-00002.h5", dataset_name(kind, unit), expected.size()), expected))
          << kind << unit;
    }
  }
}

TEST(RankFile, EmptyUnitsHaveNoDataset) {
  const ScratchFolder folder;
  const Layouts layouts(factored_kinds(), 2);
  const FileRecord record = write_example(folder.path(), layouts.kinds(), 0);

  std::vector<std::string> names;
  for (const StoredDataset& dataset : read_datasets(folder.path(), record, layouts.kinds()))
    if (dataset.kind.starts_with("exp_avg_sq")) names.push_back(dataset.name);
  EXPECT_THAT(names, testing::UnorderedElementsAre("/exp_avg_sq/unit-000", "/exp_avg_sq_row/unit-000",
                                                   "/exp_avg_sq_row/unit-002", "/exp_avg_sq_row/unit-003",
                                                   "/exp_avg_sq_col/unit-000", "/exp_avg_sq_col/unit-002",
                                                   "/exp_avg_sq_col/unit-003"));
  const hdf5::Session session;
  const hdf5::File file = hdf5::open_file(folder / record.name);
  EXPECT_GT(H5Lexists(file.get(), "/exp_avg_sq_row/unit-000", H5P_DEFAULT), 0);
  EXPECT_EQ(H5Lexists(file.get(), "/exp_avg_sq_row/unit-001", H5P_DEFAULT), 0);
  EXPECT_EQ(H5Lexists(file.get(), "/hash/exp_avg_sq_row/unit-001", H5P_DEFAULT), 0);
}

TEST(RankFile, DatasetsLieOnPagesOfTheirOwnWithAHashForEachMiB) {
  const ScratchFolder folder;
  const ShardMap shards(large_tensors(), 2);
  const FileRecord record = write_example(folder.path(), kinds_over(shards), 0);

  const auto datasets = read_datasets(folder.path(), record, kinds_over(shards));

  ASSERT_EQ(datasets.size(), 12U);
  for (const StoredDataset& dataset : datasets) {
    EXPECT_EQ(dataset.offset % kAlignment, 0U);
    EXPECT_EQ(dataset.bytes % kAlignment, 0U);
    EXPECT_EQ(dataset.hashes.size(), dataset.unit == 3 ? 2U : 1U);
  }
}

TEST(RankFile, TheSameStateGivesTheSameFile) {
  const ScratchFolder one, other;
  const ShardMap shards(small_tensors(), 2);
  write_example(one.path(), kinds_over(shards), 0);
  write_example(other.path(), kinds_over(shards), 0);

  EXPECT_EQ(read_text(one / "rank-00000-of-00002.h5"), read_text(other / "rank-00000-of-00002.h5"));
}

TEST(RankFile, CheckMetadata_NamesAFileThatIsShortMissingOrDamaged) {
  const ScratchFolder folder;
  const ShardMap shards(small_tensors(), 1);
  const FileRecord record = write_example(folder.path(), kinds_over(shards), 0);
  const std::string path = folder / record.name;
  const auto refusal = [&] { return message_of<DataError>([&] { check_metadata(folder.path(), record); }); };
  EXPECT_EQ(refusal(), "nothing was thrown");

  flip_byte(path, record.metadata.front().offset + 9);
  EXPECT_THAT(refusal(), AllOf(HasSubstr(path), HasSubstr("MiB 0 (metadata, bytes 0 to")));
  ASSERT_EQ(::truncate(path.c_str(), static_cast<off_t>(record.bytes - 1)), 0);
  EXPECT_THAT(refusal(), AllOf(HasSubstr(path), HasSubstr(std::to_string(record.bytes - 1) + " bytes, expected " +
                                                          std::to_string(record.bytes))));
  ASSERT_EQ(::unlink(path.c_str()), 0);
  EXPECT_THAT(refusal(), AllOf(HasSubstr(path), HasSubstr("No such file")));
}

TEST(RankFile, ReadDatasets_RefusesARecordThatLeavesBytesOut) {
  const ScratchFolder folder;
  const ShardMap shards(small_tensors(), 1);
  FileRecord record = write_example(folder.path(), kinds_over(shards), 0);
  record.metadata.pop_back();

  const std::string message =
      message_of<DataError>([&] { static_cast<void>(read_datasets(folder.path(), record, kinds_over(shards))); });

  EXPECT_THAT(message, HasSubstr("the manifest does not cover bytes"));
}

TEST(RankFile, ReadDatasets_RefusesTensorsThatTheFileHasNoRoomFor_BeforeAllocating) {
  const ScratchFolder folder;
  const ShardMap shards(small_tensors(), 1);
  const FileRecord record = write_example(folder.path(), kinds_over(shards), 0);
  const ShardMap huge({{"shared.weight", {std::int64_t{1} << 28, std::int64_t{1} << 27}, 0, 0}}, 1);

  const std::string message =
      message_of<DataError>([&] { static_cast<void>(read_datasets(folder.path(), record, kinds_over(huge))); });

  EXPECT_THAT(message, HasSubstr("the manifest's tensors ask for 36028797018963968 elements, the file has"));
}

TEST(RankFile, ReadDatasets_RefusesAnotherFilesHash) {
  const ScratchFolder folder;
  const ShardMap shards(small_tensors(), 1);
  FileRecord record = write_example(folder.path(), kinds_over(shards), 0);
  record.hash ^= 1;

  const std::string message =
      message_of<DataError>([&] { static_cast<void>(read_datasets(folder.path(), record, kinds_over(shards))); });

  EXPECT_THAT(message, HasSubstr("over the file's hashes, expected"));
}

TEST(RankFile, ReadDatasets_RefusesATableOfWhichTheFileIsTooSmall) {
  const ScratchFolder folder;
  const ShardMap shards(small_tensors(), 1);
  const FileRecord record = write_example(folder.path(), kinds_over(shards), 0);
  const ShardMap huge({{"shared.weight", {std::int64_t{1} << 43}, 0, 0}}, 1);

  const std::string message =
      message_of<DataError>([&] { static_cast<void>(read_datasets(folder.path(), record, kinds_over(huge))); });

  EXPECT_THAT(message, AllOf(HasSubstr(record.name),
                             HasSubstr("/master/unit-000: the manifest's tensors ask for 8796093022208 elements")));
}

}  // namespace
}  // namespace spillway::checkpoint
