// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/hdf5.hpp"

#include <gmock/gmock.h>

#include "checkpoint/fixtures.hpp"
#include "checkpoint/hdf5_image.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(Hdf5, AFailureNamesTheCallTheFileAndTheReason) {
  const hdf5::Session session;

  const std::string message = message_of<IoError>([] { static_cast<void>(hdf5::open_file("/nowhere/a.h5")); });

  EXPECT_THAT(message, AllOf(HasSubstr("/nowhere/a.h5: H5Fopen failed"), HasSubstr("No such file or directory")));
}

TEST(Hdf5, AMissingAttributeIsNamed) {
  hdf5::FileImage image;
  const hdf5::Session session;
  const hdf5::File file = hdf5::create_image(image, "a.h5");

  const std::string message =
      message_of<IoError>([&] { static_cast<void>(hdf5::read_text_attribute(file.get(), "metadata", "a.h5")); });

  EXPECT_THAT(message, HasSubstr("a.h5, attribute metadata: H5Aopen failed"));
}

}  // namespace
}  // namespace spillway::checkpoint
