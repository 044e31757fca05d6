// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <istream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace spillway::data {

/// Reads a UTF-8 text file line by line, so that a large file is never in memory as a whole. Lines end with LF or
/// CRLF; the last one may end with the file.
class LineReader {
 public:
  /// \throws DataError if the file cannot be opened
  explicit LineReader(std::string path);

  /// Reads a stream that is open already, as standard input.
  /// \param name  what messages call it  \param stream  outlives this object
  LineReader(std::string name, std::istream& stream) : path_(std::move(name)), stream_(&stream) {}

  /// The next line without its end, valid until the next call; none after the last line.
  /// \throws DataError "file:line: ..." if it is not valid UTF-8, IoError if it cannot be read
  [[nodiscard]] std::optional<std::string_view> next();

  /// Number of the line that next() gave last, counted from 1; 0 before the first.
  [[nodiscard]] std::int64_t line() const noexcept { return line_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  /// \throws DataError "file:line: what", always; the line is that of line()
  [[noreturn]] void fail(std::string_view what) const;

 private:
  std::string path_;
  std::unique_ptr<std::istream> file_;  // none where the caller owns the stream
  std::istream* stream_;
  std::string text_;
  std::int64_t line_ = 0;
};

}  // namespace spillway::data
