// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/tensor_file.hpp"

#include <array>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "checkpoint/fixtures.hpp"
#include "checkpoint/hdf5.hpp"

namespace spillway::checkpoint {
namespace {

class TensorFileAtRanks : public testing::TestWithParam<int> {};

TEST_P(TensorFileAtRanks, Hdf5ShowsEveryTensorWholeInItsShape) {
  const ScratchFolder root;
  const std::string folder = save(root.path(), 3, factored_kinds(), GetParam());

  const hdf5::Session session;
  const hdf5::File file = hdf5::open_file(folder + "/checkpoint.h5");
  EXPECT_EQ(H5Lexists(file.get(), "/exp_avg_sq/shared.weight", H5P_DEFAULT), 0);
  for (const auto& [kind, tensors] : factored_kinds()) {
    for (const TensorSpec& tensor : tensors) {
      const hdf5::Dataset dataset(H5Dopen2(file.get(), fmt::format("/{}/{}", kind, tensor.name).c_str(), H5P_DEFAULT));
      ASSERT_TRUE(dataset) << tensor.name;
      const hdf5::Dataspace space(H5Dget_space(dataset.get()));
      std::array<hsize_t, 4> extents{};
      ASSERT_EQ(H5Sget_simple_extent_dims(space.get(), extents.data(), nullptr), tensor.shape.rank());
      for (int axis = 0; axis < tensor.shape.rank(); ++axis)
        ASSERT_EQ(extents[static_cast<std::size_t>(axis)], static_cast<hsize_t>(tensor.shape[axis]));
      std::vector<float> values(static_cast<std::size_t>(tensor.shape.elements()));
      ASSERT_GE(H5Dread(dataset.get(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
      EXPECT_TRUE(same_bits(values, whole_tensor(kind, tensor))) << kind << " " << tensor.name;
    }
  }
}

TEST_P(TensorFileAtRanks, H5pyShowsEveryTensorWholeWithTheRunsAttributes) {
  if (std::system("/usr/bin/python3 -c 'import h5py' 2>/dev/null") != 0)
    GTEST_SKIP() << "the distribution's python3 has no h5py here";
  const ScratchFolder root;
  const std::string folder = save(root.path(), 3, factored_kinds(), GetParam(), R"({"run": "țară"})");
  const std::string script = R"(
import h5py, sys
folder, out = sys.argv[1:]
with h5py.File(folder + "/checkpoint.h5") as file:
    assert file.attrs["step"] == 3 and file.attrs["format"] == "spillway-checkpoint", dict(file.attrs)
    assert file.attrs["metadata"] == '{"run": "țară"}', file.attrs["metadata"]
    for kind in file:
        for name in file[kind]:
            assert file[kind][name].is_virtual
            file[kind][name][...].tofile(f"{out}/{kind}-{name}")
)";
  const ScratchFolder out;

  const int status = std::system(fmt::format(
                                     "/usr/bin/python3 -c '{}' '{}' '{}'",
                                     [&] {
                                       std::string quoted;
                                       for (const char c : script)
                                         quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
                                       return quoted;
                                     }(),
                                     folder, out.path())
                                     .c_str());

  ASSERT_EQ(status, 0);
  for (const auto& [kind, tensors] : factored_kinds()) {
    for (const TensorSpec& tensor : tensors) {
      const std::string bytes = read_text(out / fmt::format("{}-{}", kind, tensor.name));
      const auto expected = whole_tensor(kind, tensor);
      EXPECT_EQ(std::string_view(bytes),
                std::string_view(reinterpret_cast<const char*>(expected.data()), expected.size() * sizeof(float)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, TensorFileAtRanks, testing::Values(1, 2, 3));

TEST(TensorFile, WorksAfterItsFolderWasMoved) {
  const ScratchFolder root;
  const std::string moved = root / "elsewhere";
  std::filesystem::rename(save(root.path(), 3, small_tensors(), 2), moved);
  const TensorSpec tensor = small_tensors().front();

  std::vector<float> values(static_cast<std::size_t>(tensor.shape.elements()));
  const hdf5::Session session;
  const hdf5::File file = hdf5::open_file(moved + "/checkpoint.h5");
  const hdf5::Dataset dataset(H5Dopen2(file.get(), ("/master/" + tensor.name).c_str(), H5P_DEFAULT));
  ASSERT_GE(H5Dread(dataset.get(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);

  EXPECT_TRUE(same_bits(values, whole_tensor("master", tensor)));
}

TEST(TensorFile, KeepsTheMetadataAndWhoWroteIt) {
  const ScratchFolder folder;
  const std::string metadata = R"({"cursor": {"epoch": 1}, "text": "ă"})";
  const ShardMap shards(small_tensors(), 2);
  write_tensor_file(folder.path(), kinds_over(shards), {12, metadata, "spillway 0.1.0"});

  EXPECT_EQ(read_tensor_file_metadata(folder.path()), metadata);
  const hdf5::Session session;
  const hdf5::File file = hdf5::open_file(folder / "checkpoint.h5");
  EXPECT_EQ(hdf5::read_text_attribute(file.get(), "creator", ""), "spillway 0.1.0");
  EXPECT_THAT(hdf5::read_text_attribute(file.get(), "time", ""), testing::MatchesRegex("20[0-9-]+T[0-9:]+Z"));
  EXPECT_THAT(hdf5::read_text_attribute(file.get(), "hdf5_version", ""), testing::MatchesRegex("[0-9]+.[0-9]+.[0-9]+"));
}

}  // namespace
}  // namespace spillway::checkpoint
