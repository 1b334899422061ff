// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/excluded_prefixes/prefix_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "base/unique_fd.h"
#include "wire/address.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;

namespace {

constexpr std::size_t kMaxFile = 1 << 20;
constexpr base::Duration kLookEvery = std::chrono::seconds(1);

std::optional<FileStamp> stamp_of(const std::string& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return FileStamp{status.st_dev, status.st_ino, static_cast<std::uint64_t>(status.st_size),
                   status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec};
}

Result<std::string> read_file(const std::string& path) {
  const base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return base::fail_errno(errno, "cannot open it");
  std::string text;
  char block[4096];
  for (;;) {
    const auto size = ::read(fd.get(), block, sizeof(block));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return base::fail_errno(errno, "cannot read it");
    if (size == 0) return text;
    text.append(block, static_cast<std::size_t>(size));
    if (text.size() > kMaxFile)
      return fail(Code::out_of_range, "it is larger than {} bytes: a list of prefixes never is", kMaxFile);
  }
}

bool same_word(std::string_view a, std::string_view lower_case) {
  return std::ranges::equal(a, lower_case,
                            [](char x, char y) { return (x >= 'A' && x <= 'Z' ? x - 'A' + 'a' : x) == y; });
}

// Throws what yaml-cpp throws.
Result<std::vector<std::string>> parse_document(const YAML::Node& document) {
  std::vector<std::string> prefixes;
  if (!document || document.IsNull()) return prefixes;
  if (!document.IsMap()) return fail(Code::invalid_argument, "it is no map: write \"prefixes: [10.0.0.0/8]\"");
  for (const auto& entry : document) {
    if (!entry.first.IsScalar() || !same_word(entry.first.Scalar(), "prefixes") || entry.second.IsNull()) continue;
    if (!entry.second.IsSequence())
      return fail(Code::invalid_argument, "prefixes is no list: write \"prefixes: [10.0.0.0/8]\"");
    for (const auto& item : entry.second) {
      if (!item.IsScalar())
        return fail(Code::invalid_argument, "prefixes has an entry that is not text: write it like 10.0.0.0/8");
      auto prefix = wire::Prefix::parse_or_host(item.Scalar());
      if (!prefix) return std::unexpected(prefix.error());
      std::string text = prefix->network().to_string();
      if (std::ranges::find(prefixes, text) == prefixes.end()) prefixes.push_back(std::move(text));
    }
  }
  return prefixes;
}

}  // namespace

FileAccess local_files() { return {stamp_of, read_file}; }

Result<std::vector<std::string>> parse_prefix_list(const std::string& yaml) {
  try {
    return parse_document(YAML::Load(yaml));
  } catch (const YAML::Exception& error) {
    return fail(Code::invalid_argument, "it is not YAML: {}", error.what());
  }
}

PrefixFile::PrefixFile(base::Scheduler& scheduler, std::string path, FileAccess files)
    : scheduler_(scheduler), path_(std::move(path)), files_(std::move(files)) {}

const std::vector<std::string>& PrefixFile::prefixes() {
  const base::TimePoint now = scheduler_.now();
  if (looked_ && now - *looked_ < kLookEvery) return prefixes_;
  looked_ = now;
  const auto stamp = files_.stamp(path_);
  if (stamp == seen_) return prefixes_;
  seen_ = stamp;
  if (stamp) {
    reload();
  } else {
    base::log::info("{} is gone: no prefixes are excluded", path_);
    prefixes_.clear();
  }
  return prefixes_;
}

void PrefixFile::reload() {
  const auto text = files_.read(path_);
  auto parsed = text ? parse_prefix_list(*text) : std::unexpected(text.error());
  if (!parsed) {
    base::log::warning("{}: {}; the {} prefixes read before stay excluded", path_, parsed.error().message(),
                       prefixes_.size());
    return;
  }
  prefixes_ = std::move(*parsed);
  base::log::info("{}: {} excluded prefixes", path_, prefixes_.size());
}

}  // namespace mesh
