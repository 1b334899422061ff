// SPDX-License-Identifier: Apache-2.0
// The node's list of prefixes that no endpoint may use (the cluster's pods and services, the hosts): a YAML file,
// "prefixes: [10.244.0.0/16, 10.96.0.0/12]", that somebody else writes and replaces while we run. Read again when it
// has changed, which is looked for at most once a second and only when somebody asks.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/scheduler.h"

namespace mesh {

// Where NSM's manager looks.
inline constexpr const char* kExcludedPrefixesFile = "/var/lib/networkservicemesh/config/excluded_prefixes.yaml";

// What changes when a file is replaced or written.
struct FileStamp {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size = 0;
  std::int64_t modified_ns = 0;

  bool operator==(const FileStamp&) const = default;
};

// The file system, as far as it is needed here.
struct FileAccess {
  std::function<std::optional<FileStamp>(const std::string& path)> stamp;  // nothing: there is no such file
  std::function<base::Result<std::string>(const std::string& path)> read;
};
// The real one. Reads at most 1 MiB; the list is far smaller.
FileAccess local_files();

// "prefixes" in any case; missing, null or an empty text is an empty list. Host bits are cleared, repetitions dropped.
base::Result<std::vector<std::string>> parse_prefix_list(const std::string& yaml);

class PrefixFile {
 public:
  // The scheduler must outlive it.
  PrefixFile(base::Scheduler& scheduler, std::string path, FileAccess files = local_files());

  // As of now, or of up to a second ago. A file that cannot be read or understood is warned of once for each change;
  // the last good list stays. A file that is not there excludes nothing.
  const std::vector<std::string>& prefixes();

 private:
  void reload();

  base::Scheduler& scheduler_;
  const std::string path_;
  const FileAccess files_;
  std::optional<base::TimePoint> looked_;
  std::optional<FileStamp> seen_;
  std::vector<std::string> prefixes_;
};

}  // namespace mesh
