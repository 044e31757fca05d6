// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/hdf5_image.hpp"

#include <gmock/gmock.h>

#include "checkpoint/fixtures.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// A file with an attribute `text` and, if `elements` is not 0, a dataset /bulk of that many floats which are never
/// written.
hdf5::FileImage example(const std::string& text, hsize_t elements) {
  hdf5::FileImage image;
  const hdf5::Session session;
  hdf5::File file = hdf5::create_image(image, "a.h5");
  hdf5::write_attribute(file.get(), "text", text, "a.h5");
  if (elements > 0) {
    const hdf5::PropertyList creation(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER);
    const hdf5::Dataspace space = hdf5::simple_space({{elements}});
    const hdf5::Dataset dataset(
        H5Dcreate2(file.get(), "bulk", H5T_IEEE_F32LE, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT));
    EXPECT_TRUE(dataset);
  }
  hdf5::close_image(std::move(file), "a.h5");
  return image;
}

TEST(Hdf5Image, OnDiskItIsAnOrdinaryFile) {
  const ScratchFolder folder;
  const std::string text(300'000, 'x');

  hdf5::write_image(example(text, 0), folder / "a.h5");

  const hdf5::Session session;
  const hdf5::File file = hdf5::open_file(folder / "a.h5");
  EXPECT_EQ(hdf5::read_text_attribute(file.get(), "text", "a.h5"), text);
}

TEST(Hdf5Image, TheSpaceOfBulkTakesNoMemory) {
  const hdf5::FileImage image = example("text", hsize_t{1} << 38);

  EXPECT_GT(image.bytes, std::uint64_t{1} << 40);
  EXPECT_LT(image.pages.size(), 100U);
}

TEST(Hdf5Image, ADiskWithoutRoomIsNamed) {
  const ScratchFolder folder;
  const hdf5::FileImage image = example("text", hsize_t{1} << 58);

  const std::string message = message_of<IoError>([&] { hdf5::write_image(image, folder / "a.h5"); });

  EXPECT_THAT(message, AllOf(HasSubstr(folder / "a.h5: reserving 115292150460"), HasSubstr("failed: ")));
}

}  // namespace
}  // namespace spillway::checkpoint
