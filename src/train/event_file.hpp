// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <fstream>
#include <span>
#include <string>
#include <string_view>

namespace spillway::train {

/// A number under a name, for TensorBoard.
struct Scalar {
  std::string tag;  // "train/loss"
  double value = 0.0;
};

/// A new file of TensorBoard events: TFRecord framing around tensorflow's Event message (tensorflow core/util/event.proto,
/// core/lib/io/record_writer.cc). A run that goes on writes a file of its own beside the earlier ones: TensorBoard reads them all.
class EventFile {
 public:
  /// \param folder  made if it is not there. \throws IoError
  explicit EventFile(const std::string& folder);
  /// One event, flushed: the scalars of a step. \throws IoError
  void write(std::int64_t step, std::span<const Scalar> scalars);

 private:
  void record(std::string_view event);

  std::string path_;
  std::ofstream file_;
};

/// RFC 3720's CRC-32C.
[[nodiscard]] std::uint32_t crc32c(std::string_view bytes) noexcept;

}  // namespace spillway::train
