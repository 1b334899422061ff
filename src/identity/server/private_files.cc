// SPDX-License-Identifier: Apache-2.0
#include "identity/server/private_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

namespace identity {

using base::Code;
using base::fail;
using base::Result;

namespace {

constexpr off_t kMostBytes = 1 << 20;

// Of a file or directory that is open.
Result<void> check_private(int fd, const std::string& path, mode_t type, std::string_view remedy) {
  struct stat status = {};
  if (::fstat(fd, &status) != 0) return base::fail_errno(errno, "cannot look at " + path);
  if ((status.st_mode & S_IFMT) != type) {
    return fail(Code::failed_precondition, "{} is not a {}: move it away", path,
                type == S_IFDIR ? "directory" : "regular file");
  }
  if (status.st_uid != ::geteuid()) {
    return fail(Code::failed_precondition, "{} belongs to uid {}, but keys are read from files of uid {} only: {}",
                path, status.st_uid, ::geteuid(), remedy);
  }
  if ((status.st_mode & 077) != 0) {
    return fail(Code::failed_precondition,
                "{} has mode {:04o}, so others than its owner may get at the keys: find out who did, then {}", path,
                status.st_mode & 07777, remedy);
  }
  return {};
}

Result<void> write_all(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t wrote = ::write(fd, content.data(), content.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return base::fail_errno(errno, "cannot write " + path);
    content.remove_prefix(static_cast<std::size_t>(wrote));
  }
  return {};
}

}  // namespace

Result<void> make_private_directory(const std::string& path) {
  std::error_code error;
  const auto above = std::filesystem::path(path).parent_path();
  if (!above.empty()) std::filesystem::create_directories(above, error);
  if (!error && ::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) error = {errno, std::system_category()};
  if (error) {
    return fail(Code::failed_precondition, "cannot make the directory {}: {}: choose another one", path,
                error.message());
  }
  const base::UniqueFd directory(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!directory) return base::fail_errno(errno, "cannot open the directory " + path);
  return check_private(directory.get(), path, S_IFDIR, "chmod 0700 it, or choose another directory");
}

Result<base::UniqueFd> lock_directory(const std::string& path) {
  base::UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return base::fail_errno(errno, "cannot open the directory " + path);
  if (::flock(directory.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail(Code::failed_precondition, "{} is in use by another process: stop it, or choose another directory",
                path);
  }
  return directory;
}

Result<std::optional<std::string>> read_private_file(const std::string& path) {
  const base::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file && errno == ENOENT) return std::nullopt;
  if (!file) return base::fail_errno(errno, "cannot open " + path);
  if (auto safe = check_private(file.get(), path, S_IFREG, "chmod 0600 it, or move it away"); !safe) {
    return std::unexpected(safe.error());
  }
  std::string content;
  char part[4096];
  for (;;) {
    const ssize_t got = ::read(file.get(), part, sizeof part);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::fail_errno(errno, "cannot read " + path);
    if (got == 0) return content;
    content.append(part, static_cast<std::size_t>(got));
    if (static_cast<off_t>(content.size()) > kMostBytes) {
      return fail(Code::data_loss, "{} is larger than {} bytes, so it is none of ours: move it away", path, kMostBytes);
    }
  }
}

Result<void> write_private_file(const std::string& path, std::string_view content) {
  const std::string fresh = path + ".new";
  ::unlink(fresh.c_str());  // what a crash may have left
  const base::UniqueFd file(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return base::fail_errno(errno, "cannot make " + fresh);
  if (auto wrote = write_all(file.get(), content, fresh); !wrote) return wrote;
  if (::fsync(file.get()) != 0) return base::fail_errno(errno, "cannot bring to the disk " + fresh);
  if (::rename(fresh.c_str(), path.c_str()) != 0) return base::fail_errno(errno, "cannot rename to " + path);
  const auto above = std::filesystem::path(path).parent_path().string();
  const base::UniqueFd directory(::open(above.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::fsync(directory.get()) != 0) return base::fail_errno(errno, "cannot bring to the disk " + above);
  return {};
}

}  // namespace identity
