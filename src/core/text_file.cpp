// SPDX-License-Identifier: Apache-2.0
#include "core/text_file.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway {

std::string read_text(const std::string& path) {
  std::error_code unknown;
  if (std::filesystem::is_directory(path, unknown))
    throw DataError(fmt::format("{}: is a folder, a file was expected", path));
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file || text.bad()) throw DataError(fmt::format("{}: cannot be read: {}", path, std::strerror(errno)));
  return text.str();
}

void write_text(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".tmp";
  std::error_code error;
  {
    std::ofstream file(temporary, std::ios::binary);
    file << text;
    file.close();
    if (!file) error = {errno, std::generic_category()};
  }
  if (!error) std::filesystem::rename(temporary, path, error);
  if (!error) return;
  std::error_code ignored;
  std::filesystem::remove(temporary, ignored);
  throw IoError(fmt::format("{}: cannot be written", path), error.value());
}

}  // namespace spillway
