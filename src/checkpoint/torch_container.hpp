// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

#include "checkpoint/files.hpp"
#include "checkpoint/pickle.hpp"
#include "checkpoint/zip_archive.hpp"

namespace spillway::checkpoint {

/// The parts of a file of torch.save: the pickled object, and where the bytes of the storages lie that it names.
struct TorchContainer {
  Pickle pickle;
  std::map<std::string, ZipEntry> storages;  // by key
};

/// Takes apart the zip archive that torch writes from 1.6 on, or the older form: pickles of a magic number, a version, facts about
/// the machine, the object and the list of keys, then for each key the number of elements and their bytes.
/// \param path  for messages  \throws DataError for another form, another byte order, or whatever is malformed; IoError
[[nodiscard]] TorchContainer read_torch_container(const FileDescriptor& file, const std::string& path);

}  // namespace spillway::checkpoint
