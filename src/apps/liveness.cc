// SPDX-License-Identifier: Apache-2.0
#include "apps/liveness.h"

#include <fcntl.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <sched.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "wire/address.h"

namespace apps {

using base::Code;
using base::fail;
using base::Result;
using base::Task;
using wire::IpAddress;

namespace {

constexpr int kEchoes = 4;  // as NSM's check
constexpr int kBurst = 64;  // answers taken before other work gets its turn

struct Address {
  Address(const IpAddress& address, unsigned scope) {
    if (address.is_v4()) {
      auto& v4 = reinterpret_cast<sockaddr_in&>(storage);
      v4.sin_family = AF_INET;
      std::memcpy(&v4.sin_addr, address.bytes().data(), 4);
      length = sizeof(v4);
    } else {
      auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
      v6.sin6_family = AF_INET6;
      std::memcpy(&v6.sin6_addr, address.bytes().data(), 16);
      v6.sin6_scope_id = address.is_link_local() ? scope : 0;
      length = sizeof(v6);
    }
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }

  sockaddr_storage storage{};
  socklen_t length = 0;
};

// The echo's header, of one shape in ICMP and ICMPv6, and what tells one check's answers from another's.
struct Echo {
  std::uint8_t type;
  std::uint8_t code = 0;
  std::uint16_t checksum = 0;    // the kernel's
  std::uint16_t identifier = 0;  // the kernel's
  std::uint16_t sequence = 0;
  std::uint64_t check = 0;
  std::uint32_t pair = 0;
  std::array<std::uint8_t, 36> filling{};  // 56 bytes, as ping sends
};
static_assert(sizeof(Echo) == 56);

struct Source {
  Source(const IpAddress& a, base::UniqueFd s) : address(a), socket(std::move(s)) {}
  IpAddress address;
  base::UniqueFd socket;  // none: the address is not there
};
struct Sockets {
  std::vector<Source> sources;
  unsigned interface_index = 0;  // of the connection's interface; 0 if it is not there
};

Result<void> enter(const rpc::Descriptor& network_namespace) {
  // A passed-on descriptor is O_PATH, which setns refuses.
  const base::UniqueFd opened(::open(network_namespace.path().c_str(), O_RDONLY | O_CLOEXEC));
  if (!opened) return base::fail_errno(errno, "cannot open the workload's network namespace");
  if (::setns(opened.get(), CLONE_NEWNET) != 0) {
    return base::fail_errno(errno, "cannot enter the workload's network namespace");
  }
  return {};
}

// On the thread that may change namespaces.
Result<Sockets> open_sockets(const rpc::Descriptor& network_namespace, const std::set<IpAddress>& sources,
                             const std::string& interface) {
  if (auto entered = enter(network_namespace); !entered) return std::unexpected(entered.error());
  Sockets sockets;
  sockets.interface_index = ::if_nametoindex(interface.c_str());
  for (const IpAddress& source : sources) {
    const int protocol = source.is_v4() ? static_cast<int>(IPPROTO_ICMP) : static_cast<int>(IPPROTO_ICMPV6);
    base::UniqueFd socket(
        ::socket(source.is_v4() ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
    if (!socket) {
      if (errno == EACCES) {
        return fail(Code::permission_denied,
                    "the kernel refuses a ping socket to group {}: set net.ipv4.ping_group_range to "
                    "\"0 2147483647\" in the workload's network namespace",
                    ::getegid());
      }
      return base::fail_errno(errno, "cannot open a ping socket");
    }
    const Address local(source, sockets.interface_index);
    if (::bind(socket.get(), local.get(), local.length) != 0) {
      if (errno != EADDRNOTAVAIL && errno != ENODEV) {
        return base::fail_errno(errno, fmt::format("cannot ping from {}", source.to_string()));
      }
      socket.reset();
    }
    sockets.sources.emplace_back(source, std::move(socket));
  }
  return sockets;
}

std::set<IpAddress> addresses(const google::protobuf::RepeatedPtrField<std::string>& texts) {
  std::set<IpAddress> parsed;
  for (const std::string& text : texts) {
    if (const auto prefix = wire::Prefix::parse_or_host(text)) parsed.insert(prefix->address());
  }
  return parsed;
}

// One check under way. Its sockets' callbacks share it.
class Check : public std::enable_shared_from_this<Check> {
 public:
  Check(base::EventLoop& loop, std::uint64_t number, Sockets sockets, const std::set<IpAddress>& destinations)
      : loop_(loop), number_(number), interface_index_(sockets.interface_index), answered_(loop) {
    for (Source& source : sockets.sources) {
      auto& watcher = sockets_.emplace_back(std::make_unique<base::FdWatcher>(loop_, std::move(source.socket)));
      for (const IpAddress& destination : destinations) {
        if (destination.family() == source.address.family()) pairs_.emplace_back(watcher->fd(), destination);
      }
    }
    waiting_ = pairs_.size();
  }

  void listen() {
    for (std::size_t i = 0; i < sockets_.size(); ++i) listen(i);
  }

  // To every pair that has not answered yet. A send that fails is an echo lost.
  void send(int sequence) {
    for (std::size_t i = 0; i < pairs_.size(); ++i) {
      const Pair& pair = pairs_[i];
      if (pair.answered) continue;
      Echo echo{.type = pair.destination.is_v4() ? std::uint8_t{ICMP_ECHO} : std::uint8_t{ICMP6_ECHO_REQUEST}};
      echo.sequence = htons(static_cast<std::uint16_t>(sequence));
      echo.check = number_;
      echo.pair = static_cast<std::uint32_t>(i);
      const Address to(pair.destination, interface_index_);
      ::sendto(pair.socket, &echo, sizeof(echo), 0, to.get(), to.length);
    }
  }

  Task<bool> answered_by(base::TimePoint when, base::StopToken stop) {
    if (waiting_ == 0) co_return true;
    answered_ = base::OneShot<Result<bool>>(loop_);
    auto outcome = co_await base::await_until<bool>(loop_, answered_, when, std::move(stop));
    co_return outcome.value_or(false);
  }

  void close() {
    for (auto& socket : sockets_) socket->close();
  }

 private:
  struct Pair {
    Pair(int s, const IpAddress& d) : socket(s), destination(d) {}
    int socket;
    IpAddress destination;
    bool answered = false;
  };

  void listen(std::size_t index) {
    sockets_[index]->when_readable([self = shared_from_this(), index](bool readable) {
      if (!readable) return;
      self->receive(self->sockets_[index]->fd());
      self->listen(index);
    });
  }

  void receive(int socket) {
    Echo echo{.type = 0};
    for (int taken = 0; taken < kBurst; ++taken) {
      const auto size = ::recv(socket, &echo, sizeof(echo), 0);
      if (size < 0 && errno == EAGAIN) return;
      // Any other error is an ICMP error that is now off the socket.
      if (size != sizeof(echo) || echo.check != number_ || echo.pair >= pairs_.size()) continue;
      Pair& pair = pairs_[echo.pair];
      const auto reply = pair.destination.is_v4() ? std::uint8_t{ICMP_ECHOREPLY} : std::uint8_t{ICMP6_ECHO_REPLY};
      if (echo.type != reply || pair.socket != socket || pair.answered) continue;
      pair.answered = true;
      if (--waiting_ == 0) answered_.set(true);
    }
  }

  base::EventLoop& loop_;
  const std::uint64_t number_;
  const unsigned interface_index_;
  std::vector<std::unique_ptr<base::FdWatcher>> sockets_;
  std::vector<Pair> pairs_;
  std::size_t waiting_ = 0;
  base::OneShot<Result<bool>> answered_;
};

}  // namespace

KernelLiveness::KernelLiveness(base::EventLoop& loop, rpc::Descriptor network_namespace)
    : loop_(loop), namespace_(std::move(network_namespace)), thread_(loop, "liveness") {}

Task<Result<bool>> KernelLiveness::alive(const mesh::Connection& connection, base::Duration timeout,
                                         base::StopToken stop) {
  if (connection.mechanism().type() != mesh::kKernel) co_return true;
  const base::TimePoint start = loop_.now();
  const auto destinations = addresses(connection.context().ip_context().dst_ip_addrs());
  auto sources = addresses(connection.context().ip_context().src_ip_addrs());
  std::erase_if(sources, [&](const IpAddress& source) {
    return std::ranges::none_of(destinations, [&](const IpAddress& to) { return to.family() == source.family(); });
  });
  if (sources.empty()) co_return true;

  auto open = [network_namespace = namespace_, sources,
               interface = mesh::mechanism_parameter(connection.mechanism(), mesh::parameter::kName)] {
    return open_sockets(network_namespace, sources, interface);
  };
  auto opened = co_await thread_.run(std::move(open));
  if (!opened) co_return std::unexpected(opened.error().wrap("liveness of " + mesh::describe(connection)));
  const bool all_there = std::ranges::all_of(opened->sources, [](const Source& one) { return bool(one.socket); });
  if (!all_there) co_return false;

  auto check = std::make_shared<Check>(loop_, ++checks_, std::move(*opened), destinations);
  check->listen();
  bool answered = false;
  for (int sent = 0; sent < kEchoes && !answered && !stop.stopped(); ++sent) {
    check->send(sent);
    answered = co_await check->answered_by(start + timeout * (sent + 1) / kEchoes, stop);
  }
  check->close();
  if (!answered && stop.stopped()) co_return fail(Code::cancelled, "the liveness check was stopped");
  co_return answered;
}

}  // namespace apps
