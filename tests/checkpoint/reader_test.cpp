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

void expect_pattern(const std::vector<StateKind>& kinds, int piece, KeepingSink& sink) {
  for (const auto& [kind, layout] : kinds) {
    for (int unit = 0; unit < layout->units(); ++unit) {
      std::vector<float> expected(static_cast<std::size_t>(layout->shard_elements(unit)));
      PatternSource(kinds, piece).read(kind, unit, {0, layout->shard_elements(unit)}, expected);
      EXPECT_TRUE(same_bits(sink.shard(kind, unit), expected)) << kind << " unit " << unit << " piece " << piece;
    }
  }
}

/// Reads a piece into a sink and compares.
void expect_read(CheckpointReader& reader, const std::vector<StateKind>& kinds, int piece) {
  PlainStorage storage;
  KeepingSink sink(kinds);
  reader.read_shard(piece, storage, sink);
  expect_pattern(kinds, piece, sink);
  EXPECT_EQ(storage.open_files(), 0U);
}

class Reshard : public testing::TestWithParam<std::tuple<int, int>> {};

TEST_P(Reshard, GivesTheSameBitsAtAnyNumberOfRanks) {
  const auto [writers, readers] = GetParam();
  const ScratchFolder root;
  CheckpointReader reader(save(root.path(), 3, large_tensors(), writers), kHashBlock);
  const Layouts layouts(kinds_of(large_tensors()), readers);

  for (int rank = 0; rank < readers; ++rank) expect_read(reader, layouts.kinds(), rank);
}

TEST_P(Reshard, GivesEachKindInItsOwnLayout) {
  const auto [writers, readers] = GetParam();
  const ScratchFolder root;
  CheckpointReader reader(save(root.path(), 3, factored_kinds(), writers), kHashBlock);
  const Layouts layouts(factored_kinds(), readers);

  for (int rank = 0; rank < readers; ++rank) expect_read(reader, layouts.kinds(), rank);
}

INSTANTIATE_TEST_SUITE_P(Ranks, Reshard, testing::Combine(testing::Values(1, 2, 3), testing::Values(1, 2, 4)));

TEST(Reader, KnowsWhatWasWritten) {
  const ScratchFolder root;
  const CheckpointReader reader(save(root.path(), 123, small_tensors(), 2, R"({"seed": 42})"));

  EXPECT_EQ(reader.step(), 123);
  EXPECT_EQ(reader.world_size(), 2);
  EXPECT_EQ(reader.metadata(), R"({"seed": 42})");
  std::vector<std::string> kinds;
  for (const StateKind& kind : reader.kinds()) kinds.push_back(kind.name);
  EXPECT_EQ(kinds, kKinds);
  EXPECT_EQ(reader.files().size(), 3U);
  EXPECT_EQ(reader.layout("exp_avg").shard(2, 1), ShardMap(small_tensors(), 2).shard(2, 1));
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

  for (int rank = 0; rank < 2; ++rank) expect_read(reader, kinds_over(shards), rank);
}

TEST(Reader, KindsThatAreEmptyHaveNothingToRead) {
  const ScratchFolder root;
  CheckpointReader reader(save(root.path(), 1, {{"master", small_tensors()}, {"exp_avg", {}}}, 2));
  PlainStorage storage;

  EXPECT_EQ(reader.layout("exp_avg").parameters(), 0);
  EXPECT_THAT(reader.verify(storage), IsEmpty());
  const Layouts layouts({{"exp_avg", {}}, {"master", small_tensors()}}, 3);
  for (int rank = 0; rank < 3; ++rank) expect_read(reader, layouts.kinds(), rank);
}

TEST(Reader, ACheckpointOfVersion1IsStillRead) {
  const ScratchFolder root;
  const std::string folder = save(root.path(), 1, small_tensors(), 2);
  write_text_durably(folder + "/manifest.json", as_version_1(read_text(folder + "/manifest.json")));
  CheckpointReader reader(folder);
  const Layouts layouts(kinds_of(small_tensors()), 3);
  PlainStorage storage;

  EXPECT_THAT(reader.verify(storage), IsEmpty());
  for (int rank = 0; rank < 3; ++rank) expect_read(reader, layouts.kinds(), rank);
}

TEST(Reader, ReadsOnlyTheKindsAndBlocksThatAreNeeded) {
  const ScratchFolder root;
  CheckpointReader reader(save(root.path(), 1, large_tensors(), 2), kHashBlock);
  const ShardMap shards(large_tensors(), 4);
  PlainStorage storage;
  KeepingSink sink({{"master", &shards}});

  reader.read_shard(3, storage, sink);

  expect_pattern({{"master", &shards}}, 3, sink);
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
  const auto refusal = [&](const std::vector<TensorSpec>& tensors) {
    const ShardMap shards(small_tensors(), 1), other(tensors, 1);
    KeepingSink sink({{"master", &shards}, {"exp_avg", &other}});
    const std::string message = message_of<DataError>([&] { reader.read_shard(0, storage, sink); });
    EXPECT_TRUE(sink.empty());
    return message;
  };

  auto reshaped = small_tensors();
  reshaped[0].shape = {36, 53};
  EXPECT_THAT(refusal(reshaped),
              HasSubstr("step-000000001, exp_avg: tensor shared.weight: expected (36, 53), found (37, 53)"));
  EXPECT_THAT(refusal(large_tensors()), HasSubstr("tensor lm_head.weight: expected (801, 1003), found no such tensor"));
  auto fewer = small_tensors();
  fewer.pop_back();
  EXPECT_THAT(refusal(fewer),
              HasSubstr("tensor decoder.block.0.layer.2.DenseReluDense.wo.weight: expected no such tensor"));
}

TEST(Reader, AKindOrTensorThatIsNotThereIsNamed) {
  const ScratchFolder root;
  CheckpointReader reader(save(root.path(), 1, small_tensors(), 1));
  PlainStorage storage;
  KeepingSink sink({{"exp_avg_sq_row", &reader.layout("master")}});

  EXPECT_THAT(message_of<DataError>([&] { reader.read_shard(0, storage, sink); }), HasSubstr("not exp_avg_sq_row"));
  EXPECT_THAT(message_of<DataError>([&] {
                reader.read_tensor("master", "nothing", {0, 0}, storage, {});
              }),
              HasSubstr("master has no tensor nothing"));
}

TEST(Reader, GivesTensorsOfAKindInTheShapeThatTheyHaveThere) {
  const ScratchFolder root;
  CheckpointReader reader(save(root.path(), 1, factored_kinds(), 2));
  PlainStorage storage;
  for (const auto& [kind, tensors] : factored_kinds()) {
    for (const TensorSpec& tensor : tensors) {
      std::vector<float> to(static_cast<std::size_t>(tensor.shape.elements()));
      reader.read_tensor(kind, tensor.name, {0, tensor.shape.elements()}, storage, to);
      EXPECT_TRUE(same_bits(to, whole_tensor(kind, tensor))) << kind << " " << tensor.name;
    }
  }
  EXPECT_THAT(message_of<DataError>([&] {
                reader.read_tensor("exp_avg_sq", "shared.weight", {0, 0}, storage, {});
              }),
              HasSubstr("exp_avg_sq has no tensor shared.weight"));
}

TEST(Reader, Verify_FindsAnUntouchedCheckpointGood) {
  const ScratchFolder root;
  CheckpointReader reader(save(root.path(), 1, factored_kinds(), 2));
  PlainStorage storage;

  EXPECT_THAT(reader.verify(storage), IsEmpty());
  EXPECT_EQ(storage.open_files(), 0U);
}

TEST(Reader, Verify_ListsEveryDamagedMiB) {
  const ScratchFolder root;
  const std::string folder = save(root.path(), 1, large_tensors(), 2);
  CheckpointReader reader(folder);
  for (const StoredDataset& dataset : read_datasets(folder, reader.files()[1], reader.kinds())) {
    if (dataset.name == "/exp_avg/unit-003") flip_byte(dataset.path, dataset.offset + 5);
    if (dataset.name == "/master/unit-003") flip_byte(dataset.path, dataset.offset + kHashBlock);
  }
  PlainStorage storage;

  const auto problems = reader.verify(storage);

  EXPECT_THAT(problems,
              ElementsAre(AllOf(HasSubstr("rank-00001-of-00002.h5"), HasSubstr("MiB 1 of /master/unit-003"),
                                HasSubstr("it holds lm_head.weight")),
                          AllOf(HasSubstr("rank-00001-of-00002.h5"), HasSubstr("MiB 0 of /exp_avg/unit-003"))));
}

TEST(Reader, ADamagedMiBIsNotGivenOut) {
  const ScratchFolder root;
  const std::string folder = save(root.path(), 1, large_tensors(), 1);
  CheckpointReader reader(folder);
  for (const StoredDataset& dataset : read_datasets(folder, reader.files()[0], reader.kinds()))
    if (dataset.name == "/master/unit-003") flip_byte(dataset.path, dataset.offset + 3 * kHashBlock + 1);
  PlainStorage storage;
  const ShardMap shards(large_tensors(), 2);
  KeepingSink sink(kinds_over(shards));

  EXPECT_THAT(message_of<DataError>([&] { reader.read_shard(1, storage, sink); }),
              AllOf(HasSubstr("rank-00000-of-00001.h5"), HasSubstr("MiB 3 of /master/unit-003"),
                    HasSubstr("it holds lm_head.weight")));
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
  KeepingSink sink(reader.kinds());
  EXPECT_THAT(message_of<DataError>([&] { reader.read_shard(1, storage, sink); }), HasSubstr(path));
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
