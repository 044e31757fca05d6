// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/hdf5.hpp"

#include <gmock/gmock.h>

#include "checkpoint/fixtures.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(Hdf5, AFailureNamesTheCallTheFileAndTheReason) {
  const hdf5::Session session;

  const std::string message = message_of<IoError>([] { static_cast<void>(hdf5::open_file("/nowhere/a.h5", H5F_ACC_RDONLY)); });

  EXPECT_THAT(message, AllOf(HasSubstr("/nowhere/a.h5: H5Fopen failed"), HasSubstr("No such file or directory")));
}

TEST(Hdf5, ALongTextAttributeComesBackWhole) {
  const ScratchFolder folder;
  const std::string path = folder / "a.h5";
  const std::string text(300'000, 'x');
  const hdf5::Session session;
  hdf5::File file = hdf5::create_file(path);
  hdf5::write_attribute(file.get(), "metadata", text, path);
  hdf5::close_file(std::move(file), path);

  const hdf5::File again = hdf5::open_file(path, H5F_ACC_RDONLY);

  EXPECT_EQ(hdf5::read_text_attribute(again.get(), "metadata", path), text);
}

TEST(Hdf5, AMissingAttributeIsNamed) {
  const ScratchFolder folder;
  const std::string path = folder / "a.h5";
  const hdf5::Session session;
  const hdf5::File file = hdf5::create_file(path);

  const std::string message = message_of<IoError>([&] { static_cast<void>(hdf5::read_text_attribute(file.get(), "metadata", path)); });

  EXPECT_THAT(message, HasSubstr("a.h5, attribute metadata: H5Aopen failed"));
}

}  // namespace
}  // namespace spillway::checkpoint
