// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/reader.hpp"

#include <filesystem>

#include <gmock/gmock.h>
#include <unistd.h>

#include "checkpoint/fixtures.hpp"
#include "checkpoint/hash.hpp"
#include "checkpoint/layout.hpp"
#include "core/error.hpp"
#include "core/round_up.hpp"

namespace spillway::checkpoint {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

void expect_pattern(const ShardMap& shards, int rank, KeepingSink& sink, const std::vector<std::string>& kinds) {
  for (const std::string& kind : kinds) {
    for (int unit = 0; unit < shards.units(); ++unit) {
      std::vector<float> expected(static_cast<std::size_t>(shards.shard_elements(unit)));
      PatternSource(shards, rank).read(kind, unit, {0, shards.shard_elements(unit)}, expected);
      EXPECT_TRUE(same_bits(sink.shard(kind, unit), expected)) << kind << " unit " << unit << " rank " << rank;
    }
  }
}

class Reshard : public testing::TestWithParam<std::tuple<int, int>> {};

TEST_P(Reshard, GivesTheSameBitsAtAnyNumberOfRanks) {
  const auto [writers, readers] = GetParam();
  const ScratchFolder root;
  CheckpointReader reader(save(root.path(), 3, large_tensors(), writers), kHashBlock);
  const ShardMap shards(large_tensors(), readers);
  PlainStorage storage;
  for (int rank = 0; rank < readers; ++rank) {
    KeepingSink sink;

    reader.read_shard(shards, rank, storage, sink);

    expect_pattern(shards, rank, sink, kKinds);
  }
  EXPECT_EQ(storage.open_files(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Ranks, Reshard, testing::Combine(testing::Values(1, 2, 3), testing::Values(1, 2, 4)));

TEST(Reader, KnowsWhatWasWritten) {
  const ScratchFolder root;
  const CheckpointReader reader(save(root.path(), 123, small_tensors(), 2, R"({"seed": 42})"));

  EXPECT_EQ(reader.step(), 123);
  EXPECT_EQ(reader.world_size(), 2);
  EXPECT_EQ(reader.metadata(), R"({"seed": 42})");
  EXPECT_EQ(reader.kinds(), kKinds);
  EXPECT_EQ(reader.files().size(), 3U);
  EXPECT_EQ(reader.shard_map().shard(2, 1), ShardMap(small_tensors(), 2).shard(2, 1));
}

TEST(Reader, RestoresTensorsThatLieInOtherUnits) {
  const ScratchFolder root;
  CheckpointReader reader(save(root.path(), 1, small_tensors(), 3));
  auto moved = small_tensors();
  std::swap(moved[0].unit, moved[3].unit);
  moved[4].unit = 2;
  moved[4].offset = round_up(53 * 101, kShardAlignment);
  moved[1].unit = 1;
  moved[1].offset = round_up(37 * 53, kShardAlignment) + kShardAlignment;
  moved[2].offset = round_up(48 * 53, kShardAlignment);
  const ShardMap shards(moved, 2);
  PlainStorage storage;

  for (int rank = 0; rank < 2; ++rank) {
    KeepingSink sink;
    reader.read_shard(shards, rank, storage, sink);
    expect_pattern(shards, rank, sink, kKinds);
  }
}

TEST(Reader, ReadsOnlyTheKindsAndBlocksThatAreNeeded) {
  const ScratchFolder root;
  CheckpointReader reader(save(root.path(), 1, large_tensors(), 2), kHashBlock);
  const ShardMap shards(large_tensors(), 4);
  PlainStorage storage;
  KeepingSink sink({"master"});

  reader.read_shard(shards, 3, storage, sink);

  expect_pattern(shards, 3, sink, {"master"});
  EXPECT_LT(storage.read_bytes(), 2 * kHashBlock);  // its quarter of 3.2 MB, rounded out to blocks
  EXPECT_TRUE(sink.shard("exp_avg", 0).empty());
}

TEST(Reader, GivesAnyPartOfATensor) {
  const ScratchFolder root;
  CheckpointReader reader(save(root.path(), 1, large_tensors(), 3));
  PlainStorage storage;
  const TensorSpec tensor = large_tensors().back();
  std::vector<float> to(500'000);

  reader.read_tensor("exp_avg", tensor.name, {300'001, 800'001}, storage, to);

  EXPECT_TRUE(same_bits(to, std::span<const float>(whole_tensor("exp_avg", tensor)).subspan(300'001, 500'000)));
}

TEST(Reader, ATensorOfAnotherShapeMissingOrUnknownIsNamed) {
  const ScratchFolder root;
  CheckpointReader reader(save(root.path(), 1, small_tensors(), 1));
  PlainStorage storage;
  KeepingSink sink;
  const auto refusal = [&](const std::vector<TensorSpec>& tensors) {
    return message_of<DataError>([&] { reader.read_shard(ShardMap(tensors, 1), 0, storage, sink); });
  };

  auto reshaped = small_tensors();
  reshaped[0].shape = {36, 53};
  EXPECT_THAT(refusal(reshaped),
              AllOf(HasSubstr("tensor shared.weight: expected (36, 53), found (37, 53)"), HasSubstr("step-000000001")));
  EXPECT_THAT(refusal(large_tensors()), HasSubstr("tensor lm_head.weight: expected (801, 1003), found no such tensor"));
  auto fewer = small_tensors();
  fewer.pop_back();
  EXPECT_THAT(refusal(fewer),
              HasSubstr("tensor decoder.block.0.layer.2.DenseReluDense.wo.weight: expected no such tensor"));
  EXPECT_EQ(sink.shard("master", 0).size(), 0U);
}

TEST(Reader, AKindOrTensorThatIsNotThereIsNamed) {
  const ScratchFolder root;
  CheckpointReader reader(save(root.path(), 1, small_tensors(), 1));
  PlainStorage storage;
  KeepingSink sink({"exp_avg_sq_row"});

  EXPECT_THAT(message_of<DataError>([&] { reader.read_shard(reader.shard_map(), 0, storage, sink); }),
              HasSubstr("not exp_avg_sq_row"));
  EXPECT_THAT(message_of<DataError>([&] {
                reader.read_tensor("master", "nothing", {0, 0}, storage, {});
              }),
              HasSubstr("no tensor nothing"));
}

TEST(Reader, Verify_FindsAnUntouchedCheckpointGood) {
  const ScratchFolder root;
  CheckpointReader reader(save(root.path(), 1, large_tensors(), 2));
  PlainStorage storage;

  EXPECT_THAT(reader.verify(storage), IsEmpty());
  EXPECT_EQ(storage.open_files(), 0U);
}

TEST(Reader, Verify_NamesFileAndMiBOfAnyChangedByte) {
  const ScratchFolder root;
  const std::string folder = save(root.path(), 1, small_tensors(), 2);
  PlainStorage storage;
  for (const std::string& name : names_in(folder)) {
    const std::string path = folder + "/" + name;
    const std::uint64_t bytes = size_of_file(path);
    for (std::uint64_t offset = 0; offset < bytes; offset += 509) {
      flip_byte(path, offset);
      std::vector<std::string> problems;
      try {
        problems = CheckpointReader(folder).verify(storage);
      } catch (const DataError& error) {
        problems.emplace_back(error.what());
      }
      flip_byte(path, offset);
      ASSERT_EQ(problems.size(), 1U) << name << " byte " << offset;
      EXPECT_THAT(problems.front(), HasSubstr(path)) << offset;
      if (name != kManifestFile) {
        EXPECT_THAT(problems.front(), HasSubstr("MiB 0")) << offset;
      }
    }
  }
  EXPECT_THAT(CheckpointReader(folder).verify(storage), IsEmpty());
}

TEST(Reader, Verify_ListsEveryDamagedMiB) {
  const ScratchFolder root;
  const std::string folder = save(root.path(), 1, large_tensors(), 2);
  CheckpointReader reader(folder);
  for (const StoredDataset& dataset : read_datasets(folder, reader.files()[1], kKinds, reader.shard_map())) {
    if (dataset.name == "/exp_avg/unit-003") flip_byte(dataset.path, dataset.offset + 5);
    if (dataset.name == "/master/unit-003") flip_byte(dataset.path, dataset.offset + kHashBlock);
  }
  PlainStorage storage;

  const auto problems = reader.verify(storage);

  EXPECT_THAT(problems,
              ElementsAre(AllOf(HasSubstr("rank-00001-of-00002.h5"), HasSubstr("MiB 1 of /master/unit-003")),
                          AllOf(HasSubstr("rank-00001-of-00002.h5"), HasSubstr("MiB 0 of /exp_avg/unit-003"))));
}

TEST(Reader, ADamagedMiBIsNotGivenOut) {
  const ScratchFolder root;
  const std::string folder = save(root.path(), 1, large_tensors(), 1);
  CheckpointReader reader(folder);
  for (const StoredDataset& dataset : read_datasets(folder, reader.files()[0], kKinds, reader.shard_map()))
    if (dataset.name == "/master/unit-003") flip_byte(dataset.path, dataset.offset + 3 * kHashBlock + 1);
  PlainStorage storage;
  KeepingSink sink;

  EXPECT_THAT(message_of<DataError>([&] { reader.read_shard(ShardMap(large_tensors(), 2), 1, storage, sink); }),
              AllOf(HasSubstr("rank-00000-of-00001.h5"), HasSubstr("MiB 3 of /master/unit-003")));
  EXPECT_EQ(storage.open_files(), 0U);
}

TEST(Reader, ATruncatedOrMissingFileIsNamed) {
  const ScratchFolder root;
  const std::string folder = save(root.path(), 1, small_tensors(), 2);
  PlainStorage storage;
  CheckpointReader reader(folder);
  const std::string path = folder + "/rank-00001-of-00002.h5";
  ASSERT_EQ(::truncate(path.c_str(), 5000), 0);

  EXPECT_THAT(reader.verify(storage), ElementsAre(AllOf(HasSubstr(path), HasSubstr("5000 bytes, expected"))));
  std::filesystem::remove(path);
  EXPECT_THAT(reader.verify(storage), ElementsAre(AllOf(HasSubstr(path), HasSubstr("No such file"))));
  KeepingSink sink;
  EXPECT_THAT(message_of<DataError>([&] { reader.read_shard(reader.shard_map(), 1, storage, sink); }), HasSubstr(path));
  std::filesystem::remove(folder + "/checkpoint.h5");
  EXPECT_THAT(message_of<DataError>([&] { CheckpointReader{folder}; }), HasSubstr("checkpoint.h5"));
}

TEST(Reader, AFolderWithoutManifestIsNoCheckpoint) {
  const ScratchFolder folder;

  EXPECT_THAT(message_of<DataError>([&] { CheckpointReader{folder.path()}; }),
              AllOf(HasSubstr(folder.path() + " is no checkpoint"), HasSubstr("manifest.json")));
}

}  // namespace
}  // namespace spillway::checkpoint
