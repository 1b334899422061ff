// SPDX-License-Identifier: Apache-2.0
// For tests of the kernel plane: network namespaces without names that end with the test, and pings between them.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "kernel/graveyard.h"
#include "kernel/interface.h"
#include "kernel/link.h"
#include "kernel/netns.h"
#include "kernel/privileges.h"
#include "kernel/wiring.h"

namespace kernel::testing {

inline wire::IpAddress ip(std::string_view text) { return wire::IpAddress::parse(text).value(); }
inline wire::Prefix prefix(std::string_view text) { return wire::Prefix::parse(text).value(); }

inline void in_netns(const Netns& netns, const std::function<void()>& function) {
  std::thread([&] {
    if (::setns(netns.fd(), CLONE_NEWNET) != 0) {
      ADD_FAILURE() << "setns failed";
      return;
    }
    function();
  }).join();
}

// One echo, as an unprivileged ping sends it. Bytes counts the payload; fragmentation is forbidden.
inline bool ping_once(const Netns& netns, const wire::IpAddress& to, std::size_t bytes) {
  bool answered = false;
  in_netns(netns, [&] {
    const int family = to.is_v4() ? AF_INET : AF_INET6;
    const base::UniqueFd fd(
        ::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, to.is_v4() ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6}));
    if (!fd) return;
    const int forbid = to.is_v4() ? int{IP_PMTUDISC_DO} : int{IPV6_PMTUDISC_DO};
    ::setsockopt(fd.get(), to.is_v4() ? SOL_IP : SOL_IPV6, to.is_v4() ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER, &forbid,
                 sizeof forbid);
    std::vector<std::uint8_t> packet(sizeof(icmphdr) + bytes, 0x5a);
    std::fill_n(packet.begin(), sizeof(icmphdr), std::uint8_t{0});
    packet[0] = to.is_v4() ? ICMP_ECHO : ICMP6_ECHO_REQUEST;
    sockaddr_storage storage{};
    socklen_t size = 0;
    if (to.is_v4()) {
      auto& address = reinterpret_cast<sockaddr_in&>(storage);
      address.sin_family = AF_INET;
      std::memcpy(&address.sin_addr, to.bytes().data(), 4);
      size = sizeof address;
    } else {
      auto& address = reinterpret_cast<sockaddr_in6&>(storage);
      address.sin6_family = AF_INET6;
      std::memcpy(&address.sin6_addr, to.bytes().data(), 16);
      size = sizeof address;
    }
    if (::sendto(fd.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&storage), size) < 0) return;
    pollfd readable{.fd = fd.get(), .events = POLLIN, .revents = 0};
    if (::poll(&readable, 1, 300) != 1) return;
    std::vector<std::uint8_t> reply(packet.size() + 64);
    answered = ::recv(fd.get(), reply.data(), reply.size(), 0) == static_cast<ssize_t>(packet.size());
  });
  return answered;
}

inline bool ping(const Netns& netns, std::string_view to, std::size_t bytes = 56) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  do {
    if (ping_once(netns, ip(to), bytes)) return true;
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

class KernelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto allowed = check_privileges(); !allowed) GTEST_SKIP() << allowed.error().message();
  }

  std::shared_ptr<Netns> make_netns() {
    std::shared_ptr<Netns> out;
    std::thread([&] {
      ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
      auto made = namespaces_.current();
      ASSERT_TRUE(made) << made.error().message();
      out = *made;
    }).join();
    return out;
  }

  static Mark mark(std::string connection = "conn-1") {
    return {.owner = "test-fwd", .connection = std::move(connection)};
  }

  // A veth that bears no mark, as other software would make it; both ends up.
  static void make_foreign_veth(Netns& a, const std::string& name_a, Netns& b, const std::string& name_b,
                                const std::vector<wire::Prefix>& addresses_a = {},
                                const std::vector<wire::Prefix>& addresses_b = {});

  static Link link_of(Netns& netns, const std::string& name) {
    auto link = find_link(netns, name);
    EXPECT_TRUE(link) << link.error().message();
    EXPECT_TRUE(*link) << name << " is not in " << netns.name();
    return link && *link ? **link : Link{};
  }
  static bool has_link(Netns& netns, const std::string& name) {
    auto link = find_link(netns, name);
    EXPECT_TRUE(link) << link.error().message();
    return link && *link;
  }
  // Names of all links but loopback.
  static std::vector<std::string> links_of(Netns& netns) {
    std::vector<std::string> out;
    auto links = list_links(netns);
    EXPECT_TRUE(links) << links.error().message();
    for (const auto& link : *links) {
      if (link.name != "lo") out.push_back(link.name);
    }
    return out;
  }

  Namespaces namespaces_;
  Graveyard graveyard_;
  Wiring wiring_{graveyard_};
};

}  // namespace kernel::testing

#define ASSERT_DONE(expression)                    \
  do {                                             \
    const auto& done_ = (expression);              \
    ASSERT_TRUE(done_) << done_.error().message(); \
  } while (false)
