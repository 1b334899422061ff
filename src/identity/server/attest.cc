// SPDX-License-Identifier: Apache-2.0
#include "identity/server/attest.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <sstream>
#include <vector>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77  // include/uapi/asm-generic/socket.h since Linux 6.5
#endif

namespace identity {

using base::Code;
using base::fail;
using base::Result;

namespace {

constexpr std::ptrdiff_t kMaxConnections = 64;  // of one uid; root is not counted

std::unexpected<base::Error> gone(uid_t uid) {
  return fail(Code::permission_denied, "the process of uid {} that connected has ended: nobody is told its identity",
              uid);
}

std::string content_of(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  for (std::size_t start = 0; start <= text.size();) {
    const auto end = std::min(text.find(at, start), text.size());
    if (end > start) parts.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

// The process's number in the PID namespace of our /proc; 0 if it has none there or has ended.
pid_t pid_of(const base::UniqueFd& process) {
  const auto text = content_of("/proc/self/fdinfo/" + std::to_string(process.get()));
  for (const auto line : split(text, '\n')) {
    constexpr std::string_view kKey = "Pid:\t";
    if (!line.starts_with(kKey)) continue;
    pid_t pid = 0;
    const auto digits = line.substr(kKey.size());
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), pid);
    return error == std::errc{} && pid > 0 ? pid : 0;
  }
  return 0;
}

// A process in a mount namespace of its own can have any file under any name. So the name counts only if we, too, find
// the very file there that runs.
std::optional<std::string> executable_of(const std::string& folder) {
  const std::string link = folder + "/exe";
  std::array<char, 4096> name{};
  const ssize_t size = ::readlink(link.c_str(), name.data(), name.size());
  if (size <= 0 || size == static_cast<ssize_t>(name.size()) || name.front() != '/') return std::nullopt;
  std::string path(name.data(), static_cast<std::size_t>(size));
  struct stat runs = {};
  struct stat ours = {};
  if (::stat(link.c_str(), &runs) != 0 || ::stat(path.c_str(), &ours) != 0) return std::nullopt;
  if (!S_ISREG(ours.st_mode) || runs.st_dev != ours.st_dev || runs.st_ino != ours.st_ino) return std::nullopt;
  return path;
}

// Version 2's path, or that of systemd's hierarchy, or of the first controller. None if it lies outside of what our
// cgroup namespace shows, where paths do not begin at the root.
std::optional<std::string> cgroup_of(const std::string& folder) {
  std::optional<std::string> found;
  const auto text = content_of(folder + "/cgroup");
  for (const auto line : split(text, '\n')) {
    const auto first = line.find(':');
    const auto second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const auto controllers = line.substr(first + 1, second - first - 1);
    const auto path = line.substr(second + 1);
    if (!path.starts_with('/') || path.starts_with("/..")) continue;
    const bool unified = controllers.empty() && path != "/";
    if (unified) return std::string(path);
    if (!found || *found == "/" || controllers == "name=systemd") found = std::string(path);
  }
  return found;
}

class AttestedStream final : public rpc::http2::ByteStream {
 public:
  AttestedStream(std::unique_ptr<ByteStream> socket, std::shared_ptr<const Caller> caller, std::string key)
      : socket_(std::move(socket)), caller_(std::move(caller)), key_(std::move(key)) {}

  Result<std::optional<std::size_t>> read(std::span<char> into) override { return socket_->read(into); }
  Result<std::size_t> write(std::span<const char> bytes) override { return socket_->write(bytes); }
  void when_readable(std::move_only_function<void(bool)> callback) override {
    socket_->when_readable(std::move(callback));
  }
  void when_writable(std::move_only_function<void(bool)> callback) override {
    socket_->when_writable(std::move(callback));
  }
  void close() override { socket_->close(); }
  void attach(rpc::Descriptor descriptor) override { socket_->attach(std::move(descriptor)); }
  void on_descriptor(std::function<void(rpc::Descriptor)>) override {
  }  // files that come are closed: nobody asks for any
  rpc::Peer peer() const override {
    rpc::Peer peer;
    peer.id = key_;
    return peer;
  }
  int socket() const override { return socket_->socket(); }

 private:
  const std::unique_ptr<ByteStream> socket_;
  const std::shared_ptr<const Caller> caller_;  // in the table for as long as we live
  const std::string key_;
};

}  // namespace

bool Caller::alive() const {
  if (!process) return true;
  pollfd ended{process.get(), POLLIN, 0};
  return ::poll(&ended, 1, 0) == 0;
}

std::string Caller::text() const {
  auto text = fmt::format("uid {}, gid {}, pid {}, executable {}, cgroup {}", uid, gid, pid,
                          executable.value_or("unknown"), cgroup.value_or("unknown"));
  // Callers choose the names of their files: one line of the log stays one line.
  std::ranges::replace_if(text, [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return text;
}

Result<Caller> attest(int socket, PidFds pidfds) {
  ucred credentials = {};
  socklen_t length = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return base::fail_errno(errno, "cannot ask who connected");
  }
  Caller caller;
  caller.uid = credentials.uid;
  caller.gid = credentials.gid;
  if (caller.uid == static_cast<uid_t>(-1)) {
    return fail(Code::permission_denied, "the kernel knows no uid of whoever connected: use a unix socket");
  }
  if (pidfds == PidFds::never) return caller;

  int fd = -1;
  length = sizeof fd;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &length) != 0) {
    if (errno == ENOPROTOOPT) return caller;
    if (errno == EMFILE || errno == ENFILE) return base::fail_errno(errno, "cannot ask which process connected");
    return gone(caller.uid);
  }
  caller.process = base::UniqueFd(fd);
  caller.pid = pid_of(caller.process);
  if (caller.pid > 0) {
    const std::string folder = "/proc/" + std::to_string(caller.pid);
    caller.executable = executable_of(folder);
    caller.cgroup = cgroup_of(folder);
    if (caller.cgroup) caller.pod_uid = pod_uid_of(*caller.cgroup);
  }
  // Alive now means alive while we read: the number was its own all the time.
  if (!caller.alive()) return gone(caller.uid);
  return caller;
}

// cgroupfs: /kubepods/burstable/podUID/CONTAINER
// systemd:  /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice/CONTAINER, '_' for '-' in the UID
// Both may lie below the kubelet's own: /kubelet/kubepods/..., /kubelet.slice/kubelet-kubepods.slice/...
std::optional<std::string> pod_uid_of(std::string_view cgroup) {
  auto parts = split(cgroup, '/');
  auto next = parts.begin();
  const auto skip = [&](std::initializer_list<std::string_view> names) {
    const bool there = next != parts.end() && std::ranges::find(names, *next) != names.end();
    if (there) ++next;
    return there;
  };
  std::string prefix;  // of systemd's names
  if (skip({"kubelet.slice"})) {
    if (!skip({"kubelet-kubepods.slice"})) return std::nullopt;
    prefix = "kubelet-kubepods";
  } else {
    skip({"kubelet"});
    if (skip({"kubepods.slice"})) {
      prefix = "kubepods";
    } else if (!skip({"kubepods"})) {
      return std::nullopt;
    }
  }
  std::string_view uid;
  if (prefix.empty()) {
    skip({"burstable", "besteffort"});
    if (next == parts.end() || !next->starts_with("pod")) return std::nullopt;
    uid = next->substr(3);
  } else {
    for (const std::string_view quality : {"-burstable", "-besteffort"}) {
      const auto name = prefix + std::string(quality);
      if (skip({name + ".slice"})) {
        prefix = name;
        break;
      }
    }
    const auto name = prefix + "-pod";
    if (next == parts.end() || !next->starts_with(name) || !next->ends_with(".slice")) return std::nullopt;
    uid = next->substr(name.size(), next->size() - name.size() - std::string_view(".slice").size());
  }
  std::string text(uid);
  if (!prefix.empty()) std::ranges::replace(text, '_', '-');
  // A UUID, or the 32 digits by which static pods go.
  const bool fits = (text.size() == 36 || text.size() == 32) && std::ranges::all_of(text, [](char c) {
                      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || c == '-';
                    });
  if (!fits) return std::nullopt;
  return text;
}

base::Task<Result<std::unique_ptr<rpc::http2::ByteStream>>> AttestingSecurity::secure(
    std::unique_ptr<rpc::http2::ByteStream> socket, rpc::http2::Side side, base::TimePoint) {
  if (side == rpc::http2::Side::client) co_return std::move(socket);
  auto attested = attest(socket->socket(), pidfds_);
  if (!attested) co_return std::unexpected(attested.error());
  std::erase_if(callers_, [](const auto& entry) { return entry.second.expired(); });
  const auto of_uid = std::ranges::count_if(callers_, [&](const auto& entry) {
    const auto other = entry.second.lock();
    return other && other->uid == attested->uid;
  });
  if (attested->uid != 0 && of_uid >= kMaxConnections) {
    co_return fail(Code::resource_exhausted, "uid {} has {} connections open, the limit is {}: close some",
                   attested->uid, of_uid, kMaxConnections);
  }
  auto caller = std::make_shared<const Caller>(std::move(*attested));
  auto key = fmt::format("caller:{}", next_++);
  callers_.emplace(key, caller);
  co_return std::make_unique<AttestedStream>(std::move(socket), std::move(caller), std::move(key));
}

std::shared_ptr<const Caller> AttestingSecurity::caller(const rpc::Peer& peer) const {
  const auto found = callers_.find(peer.id);
  return found == callers_.end() ? nullptr : found->second.lock();
}

}  // namespace identity
