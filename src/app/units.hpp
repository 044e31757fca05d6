// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace spillway::app {

/// Bytes of "24GiB", "1.5 GB", "512B": a number and one of B, KB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB
/// (powers of 1024). Nothing if the text is something else or more than 2^63 - 1 bytes; a fraction of a byte is
/// dropped.
[[nodiscard]] std::optional<std::uint64_t> parse_size(std::string_view text);

/// The shortest text without a fraction that parse_size reads back as `bytes`: "16MiB".
[[nodiscard]] std::string size_text(std::uint64_t bytes);

/// Seconds of "3h50m", "5m", "90s", "1d": whole numbers, each with d, h, m or s, largest unit first, none twice.
/// "" is 0. Nothing if the text is something else or more than 10,000 days.
[[nodiscard]] std::optional<std::chrono::seconds> parse_duration(std::string_view text);

/// What parse_duration reads back: "3h50m"; "" for 0.
[[nodiscard]] std::string duration_text(std::chrono::seconds duration);

}  // namespace spillway::app
