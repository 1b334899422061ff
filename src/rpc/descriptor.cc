// SPDX-License-Identifier: Apache-2.0
#include "rpc/descriptor.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <charconv>

namespace rpc {

std::string inode_url(InodeKey key) { return fmt::format("inode://{}/{}", key.device, key.inode); }

std::optional<InodeKey> parse_inode_url(std::string_view text) {
  static constexpr std::string_view scheme = "inode://";
  if (!text.starts_with(scheme)) return std::nullopt;
  text.remove_prefix(scheme.size());
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto number = [](std::string_view digits) -> std::optional<std::uint64_t> {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (digits.empty() || error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
    return value;
  };
  const auto device = number(text.substr(0, slash));
  const auto inode = number(text.substr(slash + 1));
  if (!device || !inode) return std::nullopt;
  return InodeKey{*device, *inode};
}

base::Result<Descriptor> Descriptor::open(const std::string& path) {
  base::UniqueFd fd(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!fd) return base::fail_errno(errno, fmt::format("cannot open {}", path));
  return adopt(std::move(fd));
}

base::Result<Descriptor> Descriptor::adopt(base::UniqueFd fd) {
  struct stat status = {};
  if (::fstat(fd.get(), &status) != 0) return base::fail_errno(errno, "cannot identify a received descriptor");
  return Descriptor({status.st_dev, status.st_ino}, std::make_shared<const base::UniqueFd>(std::move(fd)));
}

std::string Descriptor::path() const { return fmt::format("/proc/self/fd/{}", fd()); }

}  // namespace rpc
