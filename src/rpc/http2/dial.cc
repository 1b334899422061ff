// SPDX-License-Identifier: Apache-2.0
#include "rpc/http2/dial.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <system_error>

namespace rpc::http2 {

using base::Code;
using base::fail;

namespace {

// A unix socket whose queue of waiting connections is full says so at once; asked again after this long.
constexpr base::Duration kFullQueueDelay = std::chrono::milliseconds(10);

base::Result<std::vector<Address>> look_up(const std::string& host, std::uint16_t port, int flags) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error =
      ::getaddrinfo(host.empty() ? nullptr : host.c_str(), fmt::format("{}", port).c_str(), &hints, &found);
  if (error != 0) return fail(Code::unavailable, "cannot resolve the name '{}': {}", host, ::gai_strerror(error));
  std::vector<Address> addresses;
  for (const auto* entry = found; entry != nullptr; entry = entry->ai_next) {
    auto& address = addresses.emplace_back();
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
    address.length = entry->ai_addrlen;
  }
  ::freeaddrinfo(found);
  return addresses;
}

std::string reason(int error_number) { return std::system_category().message(error_number); }

}  // namespace

Address unix_address(const std::string& path) {
  Address address;
  auto& unix_part = reinterpret_cast<sockaddr_un&>(address.storage);
  unix_part.sun_family = AF_UNIX;
  path.copy(unix_part.sun_path, sizeof unix_part.sun_path - 1);
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  return address;
}

std::vector<Address> numeric_addresses(const std::string& host, std::uint16_t port, Purpose purpose) {
  const int passive = purpose == Purpose::listen ? AI_PASSIVE : 0;
  return look_up(host, port, AI_NUMERICHOST | passive).value_or(std::vector<Address>{});
}

base::Task<base::Result<std::vector<Address>>> Dialer::resolve(std::string host, std::uint16_t port) {
  if (auto addresses = numeric_addresses(host, port, Purpose::connect); !addresses.empty()) {
    co_return std::move(addresses);
  }
  if (!resolver_) resolver_ = std::make_unique<base::WorkerThread>(loop_, "rpc-resolver");
  auto job = [host, port] { return look_up(host, port, AI_ADDRCONFIG); };
  co_return co_await resolver_->run(std::move(job));
}

base::Task<Dialer::Stream> Dialer::connect(Address address, base::TimePoint deadline) {
  while (true) {
    base::UniqueFd fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) co_return fail(Code::unavailable, "cannot make a socket: {}", reason(errno));
    const int error = ::connect(fd.get(), address.get(), address.length) == 0 ? 0 : errno;
    if (error == EAGAIN) {
      const auto again = loop_.now() + kFullQueueDelay;
      if (again > deadline) co_return fail(Code::unavailable, "its queue of waiting connections stayed full");
      co_await base::sleep_until(loop_, again, base::StopToken());
      continue;
    }
    if (error != 0 && error != EINPROGRESS) co_return fail(Code::unavailable, "{}", reason(error));
    auto stream = std::make_unique<SocketStream>(loop_, std::move(fd));
    if (error == 0) co_return std::move(stream);

    base::OneShot<base::Result<bool>> writable(loop_);
    stream->when_writable([writable](bool open) { writable.set(open); });
    const auto ready = co_await base::await_until(loop_, writable, deadline, base::StopToken());
    if (!ready) co_return fail(Code::unavailable, "nobody answered in time");
    int outcome = 0;
    socklen_t length = sizeof outcome;
    ::getsockopt(stream->socket(), SOL_SOCKET, SO_ERROR, &outcome, &length);
    if (outcome != 0) co_return fail(Code::unavailable, "{}", reason(outcome));
    co_return std::move(stream);
  }
}

base::Task<base::Result<std::unique_ptr<SocketStream>>> Dialer::dial(Url url, std::optional<Descriptor> socket,
                                                                     base::TimePoint deadline) {
  if (url.scheme == UrlScheme::unix_socket) co_return co_await connect(unix_address(url.path), deadline);
  if (url.scheme == UrlScheme::inode) co_return co_await connect(unix_address(socket->path()), deadline);

  const auto addresses = co_await resolve(url.host, url.port);
  if (!addresses) co_return std::unexpected(addresses.error());
  std::string failures;
  for (std::size_t i = 0; i < addresses->size(); ++i) {
    // Each address gets its share of the time that is left, so that a dead one does not use it up.
    const auto now = loop_.now();
    const auto share = (deadline - now) / static_cast<std::int64_t>(addresses->size() - i);
    auto stream = co_await connect((*addresses)[i], now + std::max(share, base::Duration::zero()));
    if (stream) co_return stream;
    if (!failures.contains(stream.error().message())) {
      failures += (failures.empty() ? "" : ", ") + stream.error().message();
    }
  }
  co_return fail(Code::unavailable, "{}", failures);
}

}  // namespace rpc::http2
