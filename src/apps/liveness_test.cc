// SPDX-License-Identifier: Apache-2.0
#include "apps/liveness.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <thread>

#include "wire/address.h"

namespace apps {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

// A network namespace without a name, that lives as long as its descriptor. Made and furnished on a thread of its own.
class Namespace {
 public:
  Namespace(std::vector<std::string> addresses, const char* ping_group_range) {
    std::thread([&] { make(addresses, ping_group_range); }).join();
  }
  std::optional<rpc::Descriptor> descriptor;
  std::string trouble;

 private:
  void make(const std::vector<std::string>& addresses, const char* ping_group_range) {
    if (::unshare(CLONE_NEWNET) != 0) {
      trouble = std::string("unshare: ") + std::strerror(errno);
      return;
    }
    base::UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP;
    if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0) trouble = std::string("lo up: ") + std::strerror(errno);
    for (const auto& address : addresses) add(*wire::IpAddress::parse(address));
    std::ofstream("/proc/sys/net/ipv4/ping_group_range") << ping_group_range;
    descriptor = *rpc::Descriptor::open("/proc/thread-self/ns/net");
  }

  void add(const wire::IpAddress& address) {
    struct {
      nlmsghdr header{};
      ifaddrmsg body{};
      char attribute[32]{};
    } message;
    auto* attribute = reinterpret_cast<rtattr*>(message.attribute);
    const auto size = address.bytes().size();
    attribute->rta_type = IFA_LOCAL;
    attribute->rta_len = static_cast<unsigned short>(RTA_LENGTH(size));
    std::memcpy(RTA_DATA(attribute), address.bytes().data(), size);
    message.header.nlmsg_len = static_cast<std::uint32_t>(NLMSG_LENGTH(sizeof(ifaddrmsg)) + RTA_LENGTH(size));
    message.header.nlmsg_type = RTM_NEWADDR;
    message.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    message.body.ifa_family = address.is_v4() ? AF_INET : AF_INET6;
    message.body.ifa_prefixlen = static_cast<std::uint8_t>(address.bits());
    message.body.ifa_flags = IFA_F_NODAD;
    message.body.ifa_index = 1;
    base::UniqueFd netlink(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    struct {
      nlmsghdr header;
      nlmsgerr error;
      char rest[256];
    } answer{};
    if (::send(netlink.get(), &message, message.header.nlmsg_len, 0) < 0 ||
        ::recv(netlink.get(), &answer, sizeof(answer), 0) < 0 || answer.error.error != 0) {
      trouble = "cannot add " + address.to_string() + ": " + std::strerror(-answer.error.error);
    }
  }
};

mesh::Connection kernel_connection(std::vector<std::string> src, std::vector<std::string> dst) {
  mesh::Connection connection;
  connection.set_id("nsc-0");
  connection.set_network_service("icmp-responder");
  connection.mutable_mechanism()->set_type("KERNEL");
  auto& ip = *connection.mutable_context()->mutable_ip_context();
  for (auto& one : src) ip.add_src_ip_addrs(one);
  for (auto& one : dst) ip.add_dst_ip_addrs(one);
  return connection;
}

struct LivenessTest : ::testing::Test {
  // Runs the check to its end on the loop; nothing if it did not end in time.
  std::optional<base::Result<bool>> check(const mesh::Connection& connection, base::Duration timeout = 400ms,
                                          base::StopToken stop = {}) {
    auto slot = std::make_shared<std::optional<base::Result<bool>>>();
    const auto start = loop.now();
    base::spawn_detached(store(liveness->alive(connection, timeout, std::move(stop)), slot));
    while (!slot->has_value() && loop.now() - start < 20s) loop.run_for(10ms);
    took = loop.now() - start;
    return *slot;
  }
  static base::Task<void> store(base::Task<base::Result<bool>> task,
                                std::shared_ptr<std::optional<base::Result<bool>>> slot) {
    auto value = co_await task;
    slot->emplace(std::move(value));
  }
  void use(const Namespace& where) { liveness.emplace(loop, *where.descriptor); }

  base::EventLoop loop;
  std::optional<KernelLiveness> liveness;
  base::Duration took{};
};

constexpr const char* kEverybody = "0 2147483647";

#define NEED(where)                                                                                           \
  if (!(where).descriptor) GTEST_SKIP() << "needs the right to make network namespaces: " << (where).trouble; \
  ASSERT_EQ((where).trouble, "");                                                                             \
  use(where)

TEST_F(LivenessTest, BothFamiliesAnswerAtOnce) {
  const Namespace where({"10.7.0.1", "10.7.0.2", "fd07::1", "fd07::2"}, kEverybody);
  NEED(where);
  const auto alive = check(kernel_connection({"10.7.0.1/32", "fd07::1/128"}, {"10.7.0.2/32", "fd07::2/128"}), 5s);
  ASSERT_TRUE(alive && *alive) << (alive ? alive->error().message() : "no end");
  EXPECT_TRUE(**alive);
  EXPECT_LT(took, 4s);  // did not wait for the timeout
}

TEST_F(LivenessTest, OneSilentPairIsDeadAfterTheTimeout) {
  const Namespace where({"10.7.0.1", "10.7.0.2"}, kEverybody);
  NEED(where);
  const auto alive = check(kernel_connection({"10.7.0.1/32"}, {"10.7.0.2/32", "10.8.0.1/32"}));
  ASSERT_TRUE(alive && *alive);
  EXPECT_FALSE(**alive);
  EXPECT_GE(took, 400ms);
}

TEST_F(LivenessTest, OneDeadFamilyIsDead) {
  const Namespace where({"10.7.0.1", "10.7.0.2", "fd07::1"}, kEverybody);
  NEED(where);
  const auto alive = check(kernel_connection({"10.7.0.1/32", "fd07::1/128"}, {"10.7.0.2/32", "fd07::2/128"}));
  ASSERT_TRUE(alive && *alive);
  EXPECT_FALSE(**alive);
}

TEST_F(LivenessTest, SourceAddressThatIsGoneIsDead) {
  const Namespace where({"10.7.0.2"}, kEverybody);
  NEED(where);
  const auto alive = check(kernel_connection({"10.7.0.1/32"}, {"10.7.0.2/32"}));
  ASSERT_TRUE(alive && *alive);
  EXPECT_FALSE(**alive);
}

TEST_F(LivenessTest, ClosedGroupRangeIsAnErrorNotADeath) {
  const Namespace where({"10.7.0.1", "10.7.0.2"}, "1 0");
  NEED(where);
  const auto alive = check(kernel_connection({"10.7.0.1/32"}, {"10.7.0.2/32"}));
  ASSERT_TRUE(alive);
  ASSERT_FALSE(*alive);
  EXPECT_EQ(alive->error().code(), base::Code::permission_denied);
  EXPECT_THAT(alive->error().message(), HasSubstr("net.ipv4.ping_group_range"));
}

TEST_F(LivenessTest, StopEndsTheCheck) {
  const Namespace where({"10.7.0.1"}, kEverybody);
  NEED(where);
  base::StopSource stop;
  loop.post_at(loop.now() + 50ms, [&] { stop.request_stop(); });
  const auto alive = check(kernel_connection({"10.7.0.1/32"}, {"10.8.0.1/32"}), 60s, stop.token());
  ASSERT_TRUE(alive);
  ASSERT_FALSE(*alive);
  EXPECT_EQ(alive->error().code(), base::Code::cancelled);
}

TEST_F(LivenessTest, ChecksMayOverlap) {
  const Namespace where({"10.7.0.1", "10.7.0.2"}, kEverybody);
  NEED(where);
  const auto good = kernel_connection({"10.7.0.1/32"}, {"10.7.0.2/32"});
  const auto bad = kernel_connection({"10.7.0.1/32"}, {"10.8.0.1/32"});
  auto first = std::make_shared<std::optional<base::Result<bool>>>();
  base::spawn_detached(store(liveness->alive(bad, 600ms, {}), first));
  const auto second = check(good, 5s);
  ASSERT_TRUE(second && *second);
  EXPECT_TRUE(**second);
  while (!first->has_value()) loop.run_for(10ms);
  ASSERT_TRUE(**first);
  EXPECT_FALSE(***first);
}

TEST_F(LivenessTest, CallersThreadStaysInItsNamespace) {
  const Namespace where({"10.7.0.1", "10.7.0.2"}, kEverybody);
  NEED(where);
  const auto before = rpc::Descriptor::open("/proc/thread-self/ns/net")->key();
  check(kernel_connection({"10.7.0.1/32"}, {"10.7.0.2/32"}));
  EXPECT_EQ(rpc::Descriptor::open("/proc/thread-self/ns/net")->key(), before);
  EXPECT_NE(where.descriptor->key(), before);
}

TEST_F(LivenessTest, WhatCannotBePingedIsAlive) {
  liveness.emplace(loop, *rpc::Descriptor::open("/proc/thread-self/ns/net"));
  auto memif = kernel_connection({"10.7.0.1/32"}, {"10.8.0.1/32"});
  memif.mutable_mechanism()->set_type("MEMIF");
  EXPECT_TRUE(**check(memif));
  EXPECT_TRUE(**check(kernel_connection({}, {})));
  EXPECT_TRUE(**check(kernel_connection({"10.7.0.1/32"}, {"fd07::2/128"})));
}

}  // namespace
}  // namespace apps
