// SPDX-License-Identifier: Apache-2.0
#include "support/temp_dir.hpp"

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <system_error>

#include "core/error.hpp"

namespace spillway::test {
namespace {

std::filesystem::path parent() {
  const char* test_directory = std::getenv("TEST_TMPDIR");
  return test_directory != nullptr ? std::filesystem::path(test_directory) : std::filesystem::temp_directory_path();
}

}  // namespace

TempDir::TempDir() {
  std::string name = parent() / "spillway-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) throw IoError(name, errno);
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::filesystem::path TempDir::write(const std::filesystem::path& name, const std::string& text) const {
  const std::filesystem::path file = path_ / name;
  std::filesystem::create_directories(file.parent_path());
  std::ofstream stream(file, std::ios::binary);
  stream << text;
  if (!stream.flush()) throw IoError(file, errno);
  return file;
}

}  // namespace spillway::test
