// SPDX-License-Identifier: Apache-2.0
#include "app/machine_file.hpp"

#include <cstdlib>
#include <filesystem>

#include <gmock/gmock.h>

#include "app/expect_config_error.hpp"
#include "core/log.hpp"
#include "core/text_file.hpp"
#include "support/scratch_directory.hpp"

namespace spillway::app {
namespace {

using ::testing::HasSubstr;

/// A home of its own for saved profiles.
class MachineFile : public ::testing::Test {
 protected:
  MachineFile() {
    log::quiet();
    setenv("XDG_CONFIG_HOME", folder_.path().c_str(), 1);
  }
  ~MachineFile() override { unsetenv("XDG_CONFIG_HOME"); }

  void save(const std::string& text) const {
    std::filesystem::create_directories(folder_.path() + "/spillway");
    write_text(saved_profile_path(), text);
  }

  const test::ScratchDirectory folder_;
  const std::unique_ptr<comm::Communicator> alone_ = comm::make_single_communicator();
  const std::unique_ptr<Device> host_ = make_host_device();
};

TEST_F(MachineFile, IsWhereTheUsersConfigurationIs) {
  EXPECT_EQ(saved_profile_path(), folder_.path() + "/spillway/machine.json");
  setenv("XDG_CONFIG_HOME", "", 1);
  setenv("HOME", "/home/somebody", 1);
  EXPECT_EQ(saved_profile_path(), "/home/somebody/.config/spillway/machine.json");
}

TEST_F(MachineFile, AProfile_IsReadByNameOrFromAFile) {
  plan::MachineProfile mine = plan::named_profile("a100-40gb");
  mine.name = "mine";
  write_text(folder_.file("mine.json"), plan::profile_json(mine));

  EXPECT_EQ(read_profile(folder_.file("mine.json")).name, "mine");
  EXPECT_EQ(read_profile("a100-40gb").name, "a100-40gb");
  EXPECT_THAT(config_error_of([&] { (void)read_profile(folder_.file("yours.json")); }), HasSubstr("no such file"));
  EXPECT_THAT(config_error_of([&] { (void)read_profile("a100"); }), HasSubstr("a100-40gb"));
}

TEST_F(MachineFile, TheSavedProfile_IsThatOfTheHost) {
  EXPECT_FALSE(saved_profile(*alone_));
  EXPECT_FALSE(known_profile(*host_, *alone_));

  save(plan::profile_json(plan::named_profile("h200-141gb")));

  EXPECT_EQ(saved_profile(*alone_)->name, "h200-141gb");
  EXPECT_EQ(known_profile(*host_, *alone_)->name, "h200-141gb");
}

TEST_F(MachineFile, ASavedFileThatIsNoProfile_IsRefusedWhereItIsAskedForOnly) {
  save("{}");

  EXPECT_THROW((void)saved_profile(*alone_), Error);
  EXPECT_FALSE(known_profile(*host_, *alone_));
}

}  // namespace
}  // namespace spillway::app
