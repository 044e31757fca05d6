// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace spillway {

/// The bytes of a whole file. \throws DataError naming it if it cannot be read
[[nodiscard]] std::string read_text(const std::string& path);

/// Puts text under a name at once: into `path`.tmp beside it, then renamed, so that readers see the old file or the new one. What
/// must survive a power failure too is checkpoint::write_text_durably's. \throws IoError naming the file; nothing is left then
void write_text(const std::string& path, const std::string& text);

}  // namespace spillway
