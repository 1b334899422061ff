// SPDX-License-Identifier: Apache-2.0
// Files that hold keys: a directory of mode 0700 with files of mode 0600, all our own. What others may read or write is
// refused, not repaired: it may have been read, or be theirs. The calls block, but the files are small and written
// rarely.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace identity {

// Makes the directory, and those above it, if it is missing.
base::Result<void> make_private_directory(const std::string& path);
// For as long as the descriptor is open, nobody else gets it.
base::Result<base::UniqueFd> lock_directory(const std::string& path);
// Nothing if there is no such file.
base::Result<std::optional<std::string>> read_private_file(const std::string& path);
// Whole or not at all: written beside it, brought to the disk, renamed.
base::Result<void> write_private_file(const std::string& path, std::string_view content);

}  // namespace identity
