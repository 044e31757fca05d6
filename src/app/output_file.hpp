// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fstream>
#include <string>

namespace spillway::app {

/// A file of results that appears under its name only when all of it is written, and is open before the work begins. A file that it
/// replaces leaves it its mode. What exists but is no regular file (a device, a pipe) is written to directly.
class OutputFile {
 public:
  /// \param path  "-": standard output. \throws IoError if it cannot be opened
  explicit OutputFile(std::string path);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  /// Without finish() nothing is left and a file of that name is as it was.
  ~OutputFile();

  /// Writes all of the text and gives the file its name. \throws IoError
  void finish(const std::string& text);

 private:
  std::string name_;  // for messages
  std::string path_;  // what is replaced; empty if the output is written to directly
  std::string written_;
  std::ofstream file_;
};

}  // namespace spillway::app
