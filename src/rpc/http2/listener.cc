// SPDX-License-Identifier: Apache-2.0
#include "rpc/http2/listener.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "base/log.h"
#include "rpc/http2/dial.h"

namespace rpc::http2 {

using base::Code;
using base::Error;
using base::fail;

namespace {

constexpr int kBacklog = 512;
constexpr int kAcceptsPerTurn = 64;
constexpr int kMaxHandshakes = 512;  // at once, of peers that have not said who they are
constexpr base::Duration kOutOfFilesDelay = std::chrono::milliseconds(100);
constexpr base::Duration kGoodbyeTime = std::chrono::seconds(1);  // for clients to take what was said to them

std::string reason(int error_number) { return std::system_category().message(error_number); }

// The file a unix listener made, so that it removes no other's.
struct SocketFile {
  std::string path;
  dev_t device = 0;
  ino_t inode = 0;

  void remove() const {
    struct stat status = {};
    if (path.empty() || ::lstat(path.c_str(), &status) != 0) return;
    if (status.st_dev == device && status.st_ino == inode) ::unlink(path.c_str());
  }
};

// Accepts until closed; callbacks of the loop keep it alive.
class Acceptor : public std::enable_shared_from_this<Acceptor> {
 public:
  Acceptor(base::EventLoop& loop, base::UniqueFd socket, SocketFile file, std::shared_ptr<ServerCore> core,
           Security& security)
      : loop_(loop),
        watcher_(loop, std::move(socket)),
        file_(std::move(file)),
        core_(std::move(core)),
        security_(security) {}

  void wait() {
    watcher_.when_readable([weak = weak_from_this()](bool) {
      if (const auto self = weak.lock()) self->accept();
    });
  }

  void close() {
    if (std::exchange(closed_, true)) return;
    file_.remove();
    watcher_.close();
  }

 private:
  void accept() {
    for (int i = 0; i < kAcceptsPerTurn && !closed_; ++i) {
      base::UniqueFd peer(::accept4(watcher_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (peer) {
        base::spawn_detached(serve(core_, std::make_unique<SocketStream>(loop_, std::move(peer)), security_));
        continue;
      }
      if (errno == EAGAIN || errno == EWOULDBLOCK) break;
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        base::log::error("cannot accept a connection: {}: raise the limit on open files", reason(errno));
        loop_.post_at(loop_.now() + kOutOfFilesDelay, [weak = weak_from_this()] {
          if (const auto self = weak.lock(); self && !self->closed_) self->wait();
        });
        return;
      }
      // Anything else concerns a connection that broke before we took it.
    }
    if (!closed_) wait();
  }

  static base::Task<void> serve(std::shared_ptr<ServerCore> core, std::unique_ptr<SocketStream> socket,
                                Security& security) {
    if (core->handshakes >= kMaxHandshakes) {
      base::log::warning("a connection was refused: {} handshakes are under way", core->handshakes);
      co_return;
    }
    ++core->handshakes;
    const std::uint64_t epoch = security.epoch();
    auto secured =
        co_await security.secure(std::move(socket), Side::server, core->scheduler.now() + core->limits.preface_timeout);
    --core->handshakes;
    if (!secured) {
      base::log::info("a connection was refused: {}", secured.error().message());
      co_return;
    }
    if (core->closing) co_return;
    auto connection = std::make_shared<ServerConnection>(core, std::move(*secured), epoch);
    core->connections.insert(connection);
    connection->start();
  }

  base::EventLoop& loop_;
  base::FdWatcher watcher_;
  const SocketFile file_;
  const std::shared_ptr<ServerCore> core_;
  Security& security_;
  bool closed_ = false;
};

class Http2Listener final : public Listener {
 public:
  Http2Listener(std::string url, std::shared_ptr<Acceptor> acceptor, std::shared_ptr<ServerCore> core)
      : url_(std::move(url)), acceptor_(std::move(acceptor)), core_(std::move(core)) {}

  ~Http2Listener() override {
    begin_closing();
    const auto connections = core_->connections;
    for (const auto& connection : connections) connection->close(Error(Code::unavailable, "the server has stopped"));
  }

  std::string url() const override { return url_; }

  base::Task<void> finish() override {
    const auto core = core_;
    begin_closing();
    co_await core->handlers.finish();
    const auto ended = core->connections;
    for (const auto& connection : ended) connection->shut_down();
    if (core->connections.empty()) co_return;
    base::OneShot<base::Result<bool>> gone(core->scheduler);
    core->all_gone.emplace(gone);
    const auto in_time =
        co_await base::await_until(core->scheduler, gone, core->scheduler.now() + kGoodbyeTime, base::StopToken());
    if (in_time) co_return;
    const auto stubborn = core->connections;
    for (const auto& connection : stubborn) connection->close(Error(Code::unavailable, "the server has stopped"));
  }

 private:
  void begin_closing() {
    core_->closing = true;
    acceptor_->close();
    const auto connections = core_->connections;
    for (const auto& connection : connections) {
      connection->shut_down();
      connection->stop_calls();
    }
  }

  const std::string url_;
  const std::shared_ptr<Acceptor> acceptor_;
  const std::shared_ptr<ServerCore> core_;
};

// Whether a process listens on the socket file. A full queue means that somebody does.
bool somebody_listens(const Address& address) {
  const base::UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return ::connect(probe.get(), address.get(), address.length) == 0 || errno == EAGAIN || errno == EINPROGRESS;
}

base::Result<base::UniqueFd> bind_unix(const Url& url, SocketFile& file) {
  const auto address = unix_address(url.path);
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(url.path).parent_path(), error);
  if (error) {
    return fail(Code::failed_precondition, "cannot listen on {}: cannot make its directory: {}", url.text,
                error.message());
  }
  struct stat status = {};
  if (::lstat(url.path.c_str(), &status) == 0) {
    if (!S_ISSOCK(status.st_mode)) {
      return fail(Code::already_exists, "cannot listen on {}: a file that is not a socket is there: remove it",
                  url.text);
    }
    if (somebody_listens(address)) {
      return fail(Code::already_exists,
                  "cannot listen on {}: address in use, another process listens there: stop it or choose another path",
                  url.text);
    }
    ::unlink(url.path.c_str());
  }
  base::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket || ::bind(socket.get(), address.get(), address.length) != 0 || ::chmod(url.path.c_str(), 0777) != 0 ||
      ::lstat(url.path.c_str(), &status) != 0 || ::listen(socket.get(), kBacklog) != 0) {
    return base::fail_errno(errno, "cannot listen on " + url.text);
  }
  file = SocketFile{url.path, status.st_dev, status.st_ino};
  return socket;
}

base::Result<base::UniqueFd> bind_tcp(const Url& url) {
  auto addresses = numeric_addresses(url.host == "localhost" ? "127.0.0.1" : url.host, url.port, Purpose::listen);
  if (addresses.empty()) {
    return fail(Code::invalid_argument,
                "cannot listen on {}: '{}' is not an address of this machine: write a numeric one", url.text, url.host);
  }
  // IPv6 first: such a socket takes IPv4 as well, if no address was given.
  std::ranges::sort(addresses, {}, [](const Address& a) { return a.storage.ss_family == AF_INET6 ? 0 : 1; });
  int error = 0;
  for (const auto& address : addresses) {
    base::UniqueFd socket(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1;
    const int off = 0;
    if (socket) {
      ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
      if (address.storage.ss_family == AF_INET6) {
        ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
      }
      if (::bind(socket.get(), address.get(), address.length) == 0 && ::listen(socket.get(), kBacklog) == 0) {
        return socket;
      }
    }
    error = errno;
    if (error == EADDRINUSE) break;
  }
  if (error == EADDRINUSE) {
    return fail(Code::already_exists,
                "cannot listen on {}: address in use, another process listens there: stop it or choose another port",
                url.text);
  }
  return base::fail_errno(error, "cannot listen on " + url.text);
}

std::uint16_t port_of(const base::UniqueFd& socket) {
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

}  // namespace

base::Result<std::unique_ptr<Listener>> listen(base::EventLoop& loop, const Url& url, const Services& services,
                                               const Limits& limits, Security& security) {
  if (url.scheme == UrlScheme::inode) {
    return fail(Code::invalid_argument, "cannot listen on {}: an inode names a socket that exists: write unix:///path",
                url.text);
  }
  SocketFile file;
  auto socket = url.scheme == UrlScheme::unix_socket ? bind_unix(url, file) : bind_tcp(url);
  if (!socket) return std::unexpected(socket.error());

  std::string shown = url.text;
  if (url.scheme == UrlScheme::tcp) {
    const bool ipv6 = url.host.find(':') != std::string::npos;
    shown = fmt::format("tcp://{}{}{}:{}", ipv6 ? "[" : "", url.host, ipv6 ? "]" : "", port_of(*socket));
  }
  auto core = std::make_shared<ServerCore>(loop, services, limits, security);
  auto acceptor = std::make_shared<Acceptor>(loop, std::move(*socket), std::move(file), core, security);
  acceptor->wait();
  return std::make_unique<Http2Listener>(std::move(shown), std::move(acceptor), std::move(core));
}

}  // namespace rpc::http2
