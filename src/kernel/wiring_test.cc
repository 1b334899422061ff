// SPDX-License-Identifier: Apache-2.0
// Links on the real kernel: packets pass, a repeated request keeps the device, foreign devices are left alone, names
// are free at once, and what cannot be is refused in words.
#include "kernel/wiring.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <net/if.h>
#include <sys/mman.h>

#include <algorithm>

#include "kernel/testing.h"

namespace kernel {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::ip;
using ::testing::IsEmpty;
using testing::KernelTest;
using testing::ping;
using testing::ping_once;
using testing::prefix;

class Wires : public KernelTest {
 protected:
  VethRequest veth(std::uint32_t mtu = 9000) {
    return {.mark = mark(), .a = {.netns = a_, .name = "nsm-1"}, .b = {.netns = b_, .name = "nse-1"}, .mtu = mtu};
  }
  static InterfaceConfig config(const std::string& own, const std::string& peer, std::uint32_t mtu = 0) {
    return {.addresses = {prefix("172.16.1." + own + "/32"), prefix("2001:db8::" + own + "/128")},
            .peers = {prefix("172.16.1." + peer + "/32"), prefix("2001:db8::" + peer + "/128")},
            .mtu = mtu};
  }
  void connect(const VethRequest& request) {
    auto pair = wiring_.ensure_veth(request);
    ASSERT_DONE(pair);
    const auto state = pair->made ? LinkState::fresh : LinkState::kept;
    ASSERT_DONE(apply(*request.a.netns, pair->a, config("2", "1", request.mtu), state));
    ASSERT_DONE(apply(*request.b.netns, pair->b, config("1", "2", request.mtu), state));
  }
  void disconnect(const VethRequest& request) { ASSERT_DONE(wiring_.remove(request.mark, {request.a, request.b})); }

  void SetUp() override {
    KernelTest::SetUp();
    if (IsSkipped()) return;
    a_ = make_netns();
    b_ = make_netns();
  }

  std::shared_ptr<Netns> a_;
  std::shared_ptr<Netns> b_;
};

TEST_F(Wires, VethCarriesBothFamilies) {
  connect(veth());
  EXPECT_TRUE(ping(*a_, "172.16.1.1"));
  EXPECT_TRUE(ping(*a_, "2001:db8::1"));
  EXPECT_TRUE(ping(*b_, "172.16.1.2"));
  EXPECT_TRUE(ping(*b_, "2001:db8::2"));
  EXPECT_TRUE(ping(*a_, "172.16.1.1", 8000));
  const auto seen = statistics(*a_, "nsm-1");
  ASSERT_DONE(seen);
  EXPECT_GT(seen->sent_bytes, 8000U);
  EXPECT_GT(seen->received_packets, 3U);
}

// The kernel finishes carriers and IPv6 addresses in jobs of its own; a packet lost meanwhile is asked for again after
// 1 s.
TEST_F(Wires, VeryFirstPacketIsAnswered) {
  for (int i = 0; i < 20; ++i) {
    auto request = veth();
    request.a.netns = make_netns();
    request.b.netns = make_netns();
    connect(request);
    EXPECT_TRUE(ping_once(*request.a.netns, ip("2001:db8::1"), 56)) << i;
    EXPECT_TRUE(ping_once(*request.b.netns, ip("172.16.1.2"), 56)) << i;
  }
}

TEST_F(Wires, VethBearsTheMarkOnBothEnds) {
  connect(veth());
  EXPECT_EQ(link_of(*a_, "nsm-1").mark(), mark());
  EXPECT_EQ(link_of(*b_, "nse-1").mark(), mark());
  EXPECT_EQ(link_of(*a_, "nsm-1").group, kLiveGroup);
  EXPECT_EQ(link_of(*b_, "nse-1").group, kLiveGroup);
}

TEST_F(Wires, MtuIsThatOfTheConnectionAndFollowsIt) {
  connect(veth(1500));
  EXPECT_EQ(link_of(*b_, "nse-1").mtu, 1500U);
  EXPECT_TRUE(ping(*a_, "172.16.1.1", 1472));
  EXPECT_FALSE(ping_once(*a_, ip("172.16.1.1"), 1473));
  connect(veth(1400));
  EXPECT_EQ(link_of(*a_, "nsm-1").mtu, 1400U);
  EXPECT_EQ(link_of(*b_, "nse-1").mtu, 1400U);
  EXPECT_FALSE(ping_once(*a_, ip("172.16.1.1"), 1373));
}

TEST_F(Wires, RefreshKeepsTheDevices) {
  connect(veth());
  const auto before = link_of(*a_, "nsm-1").index;
  auto again = wiring_.ensure_veth(veth());
  ASSERT_DONE(again);
  EXPECT_FALSE(again->made);
  connect(veth());
  EXPECT_EQ(link_of(*a_, "nsm-1").index, before);
  EXPECT_TRUE(ping(*a_, "172.16.1.1"));
}

TEST_F(Wires, AnotherConnectionOfOursTakesTheNameOver) {
  connect(veth());
  auto next = veth();
  next.mark = mark("conn-2");
  connect(next);
  EXPECT_EQ(link_of(*a_, "nsm-1").mark(), mark("conn-2"));
  EXPECT_TRUE(ping(*a_, "172.16.1.1"));
  ASSERT_DONE(graveyard_.flush());
  EXPECT_THAT(links_of(*a_), ::testing::ElementsAre("nsm-1"));
  EXPECT_THAT(links_of(*b_), ::testing::ElementsAre("nse-1"));
  EXPECT_TRUE(ping(*a_, "172.16.1.1"));
}

TEST_F(Wires, HealToAnotherEndpointNamespaceKeepsTheName) {
  connect(veth());
  auto healed = veth();
  healed.b.netns = make_netns();
  connect(healed);
  EXPECT_TRUE(ping(*a_, "172.16.1.1"));
  EXPECT_TRUE(ping(*healed.b.netns, "2001:db8::2"));
  ASSERT_DONE(graveyard_.flush());
  EXPECT_THAT(links_of(*b_), IsEmpty());
}

TEST_F(Wires, ForeignInterfaceOfTheNameIsLeftAlone) {
  make_foreign_veth(*a_, "nsm-1", *b_, "other");
  const auto before = link_of(*a_, "nsm-1").index;
  const auto refused = wiring_.ensure_veth(veth());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), base::Code::already_exists);
  EXPECT_THAT(refused.error().message(), AllOf(HasSubstr("nsm-1"), HasSubstr("not Patchbay's")));
  EXPECT_EQ(link_of(*a_, "nsm-1").index, before);
  EXPECT_FALSE(has_link(*b_, "nse-1"));

  auto far = veth();
  far.a.name = "free";
  far.b.name = "other";
  const auto refused_far = wiring_.ensure_veth(far);
  ASSERT_FALSE(refused_far);
  EXPECT_THAT(refused_far.error().message(), HasSubstr("interface other"));
  EXPECT_FALSE(has_link(*a_, "free"));
}

TEST_F(Wires, RemovingFreesTheNamesAndStopsTrafficAtOnce) {
  connect(veth());
  ASSERT_TRUE(ping(*a_, "172.16.1.1"));
  disconnect(veth());
  EXPECT_FALSE(has_link(*a_, "nsm-1"));
  EXPECT_FALSE(has_link(*b_, "nse-1"));
  EXPECT_FALSE(ping_once(*a_, ip("172.16.1.1"), 56));
  connect(veth());
  EXPECT_TRUE(ping(*a_, "172.16.1.1"));
  EXPECT_TRUE(ping(*b_, "2001:db8::2"));
  ASSERT_DONE(graveyard_.flush());
  EXPECT_THAT(links_of(*a_), ::testing::ElementsAre("nsm-1"));
  EXPECT_TRUE(ping(*a_, "2001:db8::1"));
}

TEST_F(Wires, RemovingTwiceOrAnotherConnectionsIsASuccessWithoutEffect) {
  connect(veth());
  ASSERT_DONE(wiring_.remove(mark("conn-2"), {veth().a, veth().b}));
  EXPECT_TRUE(ping(*a_, "172.16.1.1"));
  disconnect(veth());
  disconnect(veth());
  ASSERT_DONE(graveyard_.flush());
  disconnect(veth());
  EXPECT_THAT(links_of(*a_), IsEmpty());
}

TEST_F(Wires, TwoEndsMayShareANamespace) {
  auto request = veth();
  request.b.netns = a_;
  ASSERT_DONE(wiring_.ensure_veth(request));
  auto again = wiring_.ensure_veth(request);
  ASSERT_DONE(again);
  EXPECT_FALSE(again->made);
  request.b.name = request.a.name;
  const auto refused = wiring_.ensure_veth(request);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("different names"));
}

TEST_F(Wires, HostileNamesAreRefused) {
  for (const std::string name :
       {"", "sixteen-bytes-xx", "a/b", "../x", ".", "..", "a b", "a\tb", "a\nb", "all", "default", "x%d", "a:b"}) {
    auto request = veth();
    request.a.name = name;
    const auto refused = wiring_.ensure_veth(request);
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().code(), base::Code::invalid_argument) << name;
    EXPECT_THAT(refused.error().message(), HasSubstr("cannot name an interface"));
  }
  auto zero = veth();
  zero.b.name = std::string("a\0b", 3);
  EXPECT_FALSE(wiring_.ensure_veth(zero));
  EXPECT_THAT(links_of(*a_), IsEmpty());
  EXPECT_THAT(links_of(*b_), IsEmpty());
}

TEST_F(Wires, MarksThatDoNotFitAreRefused) {
  auto request = veth();
  request.mark.connection = std::string(250, 'x');
  EXPECT_THAT(wiring_.ensure_veth(request).error().message(), HasSubstr("cannot mark an interface"));
  request.mark = {.owner = "a:b", .connection = "c"};
  EXPECT_THAT(wiring_.ensure_veth(request).error().message(), HasSubstr("without ':'"));
  request.mark = mark("id:with:colons");
  connect(request);
  EXPECT_EQ(link_of(*a_, "nsm-1").mark()->connection, "id:with:colons");
}

TEST_F(Wires, InterfaceThatVanishesIsNamed) {
  auto pair = wiring_.ensure_veth(veth());
  ASSERT_DONE(pair);
  disconnect(veth());
  ASSERT_DONE(graveyard_.flush());
  const auto failed = apply(*a_, pair->a, config("2", "1"), LinkState::fresh);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), base::Code::not_found);
  EXPECT_THAT(failed.error().message(), AllOf(HasSubstr("nsm-1"), HasSubstr("gone")));
  const auto counters = statistics(*a_, "nsm-1");
  ASSERT_FALSE(counters);
  EXPECT_EQ(counters.error().code(), base::Code::not_found);
}

TEST_F(Wires, GraveyardCopesWithTakenGraveNames) {
  connect(veth());
  const auto index = link_of(*a_, "nsm-1").index;
  make_foreign_veth(*a_, fmt::format("gone{}", index), *b_, "hostile");
  disconnect(veth());
  EXPECT_FALSE(has_link(*a_, "nsm-1"));
  ASSERT_DONE(graveyard_.flush());
  EXPECT_THAT(links_of(*a_), ::testing::ElementsAre(fmt::format("gone{}", index)));
}

TEST_F(Wires, GraveyardDeletesInBatches) {
  const auto clients = {make_netns(), make_netns(), make_netns()};
  int number = 0;
  for (const auto& client : clients) {
    for (int i = 0; i < 5; ++i) {
      auto request = veth();
      request.a = {.netns = client, .name = fmt::format("nsm-{}", i)};
      request.b.name = fmt::format("nse-{}", number++);
      ASSERT_DONE(wiring_.ensure_veth(request));
      disconnect(request);
    }
  }
  ASSERT_DONE(graveyard_.flush());
  for (const auto& client : clients) EXPECT_THAT(links_of(*client), IsEmpty());
  EXPECT_THAT(links_of(*b_), IsEmpty());
  EXPECT_EQ(graveyard_.counters().deleted, 15U);
  EXPECT_LE(graveyard_.counters().batches, 3U);
}

// The graveyard's reason to be: closing does not wait for the kernel to delete. Figures are printed, and compared with
// deleting one by one on the same machine at the same time, which the load of other processes slows down alike.
TEST_F(Wires, ConnectsDoNotWaitForDeletions) {
  using Clock = std::chrono::steady_clock;
  constexpr int kClients = 8;
  std::vector<std::shared_ptr<Netns>> clients;
  for (int i = 0; i < kClients; ++i) clients.push_back(make_netns());
  const auto since = [](Clock::time_point then) {
    return std::chrono::duration<double, std::milli>(Clock::now() - then).count();
  };
  std::vector<double> connect_ms;
  std::vector<double> close_ms;
  const auto cycle = [&](int i) {
    auto request = veth();
    request.mark = mark(fmt::format("conn-{}", i));
    request.a.netns = clients[static_cast<std::size_t>(i % kClients)];
    request.b.name = fmt::format("nse-{}", i % kClients);
    const auto start = Clock::now();
    connect(request);
    connect_ms.push_back(since(start));
    const auto connected = Clock::now();
    disconnect(request);
    close_ms.push_back(since(connected));
  };

  constexpr int kSingly = 10;
  auto begin = Clock::now();
  for (int i = 0; i < kSingly; ++i) {
    cycle(i);
    ASSERT_DONE(graveyard_.flush());
  }
  const double singly_ms = since(begin) / kSingly;
  connect_ms.clear();
  close_ms.clear();

  constexpr int kConnects = 300;
  const auto batches_before = graveyard_.counters().batches;
  begin = Clock::now();
  for (int i = 0; i < kConnects; ++i) cycle(i);
  ASSERT_DONE(graveyard_.flush());
  const double batched_ms = since(begin) / kConnects;
  const auto batches = graveyard_.counters().batches - batches_before;

  std::ranges::sort(connect_ms);
  std::ranges::sort(close_ms);
  fmt::print(
      "{} connects and closes, deleted in {} batches: {:.0f}/s ({:.0f}/s singly); connect p50 {:.2f} ms p99 {:.2f} ms,"
      " close p50 {:.2f} ms p99 {:.2f} ms\n",
      kConnects, batches, 1000 / batched_ms, 1000 / singly_ms, connect_ms[kConnects / 2],
      connect_ms[kConnects * 99 / 100], close_ms[kConnects / 2], close_ms[kConnects * 99 / 100]);
  EXPECT_EQ(graveyard_.counters().deleted, static_cast<std::uint64_t>(kSingly + kConnects));
  EXPECT_THAT(links_of(*b_), IsEmpty());
  EXPECT_LT(batches, kConnects / 4U);
  EXPECT_LT(batched_ms, singly_ms);
}

// Two nodes, each with a workload; the underlay between the nodes is v4 and v6.
class Tunnels : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (IsSkipped()) return;
    for (auto* netns : {&node1_, &node2_, &pod1_, &pod2_}) *netns = make_netns();
    make_foreign_veth(*node1_, "uplink", *node2_, "uplink", {prefix("192.0.2.1/24"), prefix("2001:db8:ff::1/64")},
                      {prefix("192.0.2.2/24"), prefix("2001:db8:ff::2/64")});
  }
  VxlanRequest tunnel(int node, bool v6 = false) {
    const auto first = ip(v6 ? "2001:db8:ff::1" : "192.0.2.1");
    const auto second = ip(v6 ? "2001:db8:ff::2" : "192.0.2.2");
    return {.mark = mark(),
            .place = {.netns = node == 1 ? pod1_ : pod2_, .name = "nsm-1"},
            .underlay = node == 1 ? node1_ : node2_,
            .vni = 0x123456,
            .local = node == 1 ? first : second,
            .remote = node == 1 ? second : first,
            .mtu = v6 ? 1426U : 1446U};
  }
  void connect(const VxlanRequest& request, const std::string& own, const std::string& peer) {
    auto tunnel = wiring_.ensure_vxlan(request);
    ASSERT_DONE(tunnel);
    const InterfaceConfig config{.addresses = {prefix("172.16.1." + own + "/32"), prefix("fd00::" + own + "/128")},
                                 .peers = {prefix("172.16.1." + peer + "/32"), prefix("fd00::" + peer + "/128")}};
    ASSERT_DONE(apply(*request.place.netns, tunnel->link, config, tunnel->made ? LinkState::fresh : LinkState::kept));
  }

  std::shared_ptr<Netns> node1_;
  std::shared_ptr<Netns> node2_;
  std::shared_ptr<Netns> pod1_;
  std::shared_ptr<Netns> pod2_;
};

TEST_F(Tunnels, CarryBothFamiliesOverEitherUnderlay) {
  for (const bool v6 : {false, true}) {
    connect(tunnel(1, v6), "2", "1");
    connect(tunnel(2, v6), "1", "2");
    const auto before = statistics(*node1_, "uplink")->sent_bytes;
    EXPECT_TRUE(ping(*pod1_, "172.16.1.1")) << v6;
    EXPECT_TRUE(ping(*pod2_, "fd00::2")) << v6;
    EXPECT_TRUE(ping(*pod1_, "172.16.1.1", tunnel(1, v6).mtu - 28)) << v6;
    EXPECT_FALSE(ping_once(*pod1_, ip("172.16.1.1"), tunnel(1, v6).mtu - 27)) << v6;
    EXPECT_GT(statistics(*node1_, "uplink")->sent_bytes, before + 1400) << "the tunnel must run through the node";
    EXPECT_THAT(links_of(*node1_), ::testing::ElementsAre("uplink"));
  }
}

TEST_F(Tunnels, RefreshKeepsTheDeviceAndChangesReplaceIt) {
  connect(tunnel(1), "2", "1");
  connect(tunnel(2), "1", "2");
  const auto before = link_of(*pod1_, "nsm-1").index;
  connect(tunnel(1), "2", "1");
  EXPECT_EQ(link_of(*pod1_, "nsm-1").index, before);
  EXPECT_TRUE(ping(*pod1_, "172.16.1.1"));
  for (int node : {1, 2}) {
    auto changed = tunnel(node);
    changed.vni = 77;
    connect(changed, node == 1 ? "2" : "1", node == 1 ? "1" : "2");
  }
  EXPECT_EQ(link_of(*pod1_, "nsm-1").vxlan->vni, 77U);
  EXPECT_TRUE(ping(*pod1_, "172.16.1.1"));
}

TEST_F(Tunnels, VniThatIsTakenIsNamed) {
  connect(tunnel(1), "2", "1");
  auto other = tunnel(1);
  other.mark = mark("conn-2");
  other.place = {.netns = pod2_, .name = "nsm-2"};
  other.remote = ip("192.0.2.99");
  const auto refused = wiring_.ensure_vxlan(other);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), base::Code::already_exists);
  EXPECT_THAT(refused.error().message(), AllOf(HasSubstr("VNI 1193046"), HasSubstr("choose another VNI")));
  EXPECT_FALSE(has_link(*pod2_, "nsm-2"));
}

TEST_F(Tunnels, ClosedTunnelsVniIsFreeForTheNext) {
  connect(tunnel(1), "2", "1");
  ASSERT_DONE(wiring_.remove(mark(), {tunnel(1).place}));
  auto next = tunnel(1);
  next.mark = mark("conn-2");
  next.place.netns = pod2_;
  ASSERT_DONE(wiring_.ensure_vxlan(next));
}

TEST_F(Tunnels, ForeignInterfaceOfTheNameIsLeftAlone) {
  make_foreign_veth(*pod1_, "nsm-1", *pod2_, "other");
  const auto refused = wiring_.ensure_vxlan(tunnel(1));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("not Patchbay's"));
}

TEST_F(Tunnels, InterfaceNamesOfTheNodeDoNotMatter) {
  auto request = tunnel(1);
  request.place.name = "uplink";
  ASSERT_DONE(wiring_.ensure_vxlan(request));
  EXPECT_EQ(link_of(*pod1_, "uplink").kind, "vxlan");
  EXPECT_EQ(link_of(*node1_, "uplink").kind, "veth");
}

TEST_F(Tunnels, WorkloadMayLiveInTheNodesNamespace) {
  for (const int node : {1, 2}) {
    auto request = tunnel(node);
    request.place.netns = request.underlay;
    connect(request, node == 1 ? "2" : "1", node == 1 ? "1" : "2");
    auto again = wiring_.ensure_vxlan(request);
    ASSERT_DONE(again);
    EXPECT_FALSE(again->made);
  }
  EXPECT_TRUE(ping(*node1_, "172.16.1.1"));
  EXPECT_TRUE(ping(*node2_, "fd00::2"));
}

TEST_F(Tunnels, PortThatIsTakenIsNamed) {
  base::UniqueFd holder;
  testing::in_netns(*node1_, [&holder] {
    holder = base::UniqueFd(::socket(AF_INET, SOCK_DGRAM, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(4789);
    ASSERT_EQ(::bind(holder.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  });
  auto made = wiring_.ensure_vxlan(tunnel(1));
  ASSERT_DONE(made);
  const auto failed = apply(*pod1_, made->link, {}, LinkState::fresh);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), base::Code::failed_precondition);
  EXPECT_THAT(failed.error().message(), HasSubstr("UDP port"));
}

TEST_F(Tunnels, ParametersOutOfRangeAreRefused) {
  auto request = tunnel(1);
  request.vni = 1U << 24;
  EXPECT_THAT(wiring_.ensure_vxlan(request).error().message(), HasSubstr("VNI 16777216 is out of range"));
  request = tunnel(1);
  request.remote = ip("::1");
  EXPECT_THAT(wiring_.ensure_vxlan(request).error().message(), HasSubstr("one family"));
  request = tunnel(1);
  request.mtu = 70000;
  EXPECT_THAT(wiring_.ensure_vxlan(request).error().message(), HasSubstr("MTU 70000"));
}

class Descriptors : public KernelTest {};

TEST_F(Descriptors, PathOnlyDescriptorOfANamespaceIsTaken) {
  const auto netns = make_netns();
  const base::UniqueFd path_only(::open(fmt::format("/proc/self/fd/{}", netns->fd()).c_str(), O_PATH | O_CLOEXEC));
  auto found = namespaces_.from_descriptor(path_only.get());
  ASSERT_DONE(found);
  EXPECT_EQ(*found, netns);
}

TEST_F(Descriptors, AnythingElseIsRefused) {
  const base::UniqueFd file(::open("/dev/null", O_PATH | O_CLOEXEC));
  const base::UniqueFd memory(::memfd_create("x", MFD_CLOEXEC));
  const base::UniqueFd other(::open("/proc/self/ns/uts", O_PATH | O_CLOEXEC));
  for (const int fd : {file.get(), memory.get(), other.get()}) {
    const auto refused = namespaces_.from_descriptor(fd);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), base::Code::invalid_argument);
    EXPECT_THAT(refused.error().message(), HasSubstr("is not a network namespace"));
  }
  EXPECT_FALSE(namespaces_.from_descriptor(9999));
  const auto gone = namespaces_.from_path("/run/netns/pbt-never-made");
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code(), base::Code::not_found);
}

}  // namespace
}  // namespace kernel
