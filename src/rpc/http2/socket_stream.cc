// SPDX-License-Identifier: Apache-2.0
#include "rpc/http2/socket_stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/log.h"

namespace rpc::http2 {

namespace {

// Finds a TCP peer that vanished without a word within about half a minute, without HTTP/2 pings, which gRPC's servers
// punish when they come more often than every five minutes.
void tune_tcp(int fd) {
  const auto set = [fd](int level, int option, int value) { ::setsockopt(fd, level, option, &value, sizeof value); };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 20);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 2);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 30'000);
}

bool is_unix(int fd) {
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  return ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0 && address.ss_family == AF_UNIX;
}

}  // namespace

SocketStream::SocketStream(base::EventLoop& loop, base::UniqueFd socket) : watcher_(loop, std::move(socket)) {
  unix_socket_ = is_unix(watcher_.fd());
  if (!unix_socket_) tune_tcp(watcher_.fd());
}

base::Result<std::optional<std::size_t>> SocketStream::read(std::span<char> into) {
  if (closed_) return base::fail(base::Code::unavailable, "the connection is closed");
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kDescriptorsPerRead * sizeof(int))> control;
  iovec part{into.data(), into.size()};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (unix_socket_) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
  }
  ssize_t got = 0;
  do {
    got = ::recvmsg(watcher_.fd(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::nullopt;
    return base::fail_errno(errno, "cannot read");
  }
  std::vector<base::UniqueFd> files;  // first take all into our hands, then look at them
  for (auto* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      files.emplace_back(fd);
    }
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    base::log::warning("a peer sent more than {} files at once, or this process has no descriptor left: some were lost",
                       kDescriptorsPerRead);
  }
  for (auto& file : files) {
    auto descriptor = Descriptor::adopt(std::move(file));
    if (descriptor) {
      on_descriptor_(std::move(*descriptor));
    } else {
      base::log::warning("{}", descriptor.error().message());
    }
  }
  return static_cast<std::size_t>(got);
}

base::Result<SocketStream::Sent> SocketStream::send_attached(std::span<const char> bytes) {
  Sent sent;
  while (!attached_.empty() && sent.bytes < bytes.size() && sent.bytes < kDescriptorsPerRead) {
    // One file a byte; the last byte at hand takes what is left, so that no file waits for bytes that may never come.
    std::array<int, kDescriptorsPerRead> files;
    std::size_t count = 1;
    if (sent.bytes + 1 == bytes.size()) count = std::min(attached_.size(), files.size());
    for (std::size_t i = 0; i < count; ++i) files[i] = attached_[i].fd();

    alignas(cmsghdr) std::array<char, CMSG_SPACE(kDescriptorsPerRead * sizeof(int))> control = {};
    iovec part{const_cast<char*>(bytes.data()) + sent.bytes, 1};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    auto* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    std::memcpy(CMSG_DATA(header), files.data(), count * sizeof(int));

    const ssize_t wrote = ::sendmsg(watcher_.fd(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (wrote < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        sent.full = true;
        return sent;
      }
      return base::fail_errno(errno, "cannot write");
    }
    sent.bytes += 1;
    attached_.erase(attached_.begin(), attached_.begin() + static_cast<std::ptrdiff_t>(count));
  }
  return sent;
}

base::Result<std::size_t> SocketStream::write(std::span<const char> bytes) {
  if (closed_) return base::fail(base::Code::unavailable, "the connection is closed");
  std::size_t done = 0;
  if (!attached_.empty()) {
    auto sent = send_attached(bytes);
    if (!sent) return std::unexpected(sent.error());
    // Files still waiting go with the next burst: the caller writes again while it has bytes.
    if (sent->full || !attached_.empty() || sent->bytes == bytes.size()) return sent->bytes;
    done = sent->bytes;
  }
  ssize_t wrote = 0;
  do {
    wrote = ::send(watcher_.fd(), bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (wrote < 0 && errno == EINTR);
  if (wrote < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return done;
    return base::fail_errno(errno, "cannot write");
  }
  return done + static_cast<std::size_t>(wrote);
}

void SocketStream::when_readable(std::move_only_function<void(bool)> callback) {
  watcher_.when_readable(std::move(callback));
}

void SocketStream::when_writable(std::move_only_function<void(bool)> callback) {
  watcher_.when_writable(std::move(callback));
}

void SocketStream::close() {
  if (std::exchange(closed_, true)) return;
  attached_.clear();
  watcher_.close();
}

void SocketStream::attach(Descriptor descriptor) {
  if (unix_socket_ && !closed_ && descriptor.fd() >= 0) attached_.push_back(std::move(descriptor));
}

}  // namespace rpc::http2
