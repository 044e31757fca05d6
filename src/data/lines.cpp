// SPDX-License-Identifier: Apache-2.0
#include "data/lines.hpp"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>

#include <fmt/format.h>

#include "core/error.hpp"
#include "data/utf8.hpp"

namespace spillway::data {

LineReader::LineReader(std::string path)
    : path_(std::move(path)), file_(std::make_unique<std::ifstream>(path_, std::ios::binary)), stream_(file_.get()) {
  if (!*file_) throw DataError(fmt::format("{}: cannot open: {}", path_, std::generic_category().message(errno)));
  std::error_code ignored;
  if (std::filesystem::is_directory(path_, ignored)) throw DataError(path_ + ": is a folder, a text file was expected");
}

std::optional<std::string_view> LineReader::next() {
  if (!std::getline(*stream_, text_)) {
    if (stream_->bad()) throw IoError(fmt::format("{}:{}: cannot read", path_, line_ + 1), errno);
    return std::nullopt;
  }
  ++line_;
  if (!text_.empty() && text_.back() == '\r') text_.pop_back();
  if (const auto at = find_invalid_utf8(text_)) {
    const auto byte = static_cast<unsigned char>(text_[*at]);
    fail(fmt::format("not valid UTF-8: byte {} of the line is 0x{:02X}", *at + 1, byte));
  }
  return text_;
}

void LineReader::fail(std::string_view what) const { throw DataError(fmt::format("{}:{}: {}", path_, line_, what)); }

}  // namespace spillway::data
