// SPDX-License-Identifier: Apache-2.0
// What a connection's context becomes on an interface: read back from the kernel after each change, and tried with
// packets.
#include "kernel/interface.h"

#include <gmock/gmock.h>
#include <linux/if_addr.h>
#include <net/if.h>

#include <algorithm>

#include "kernel/testing.h"
#include "kernel/underlay.h"

namespace kernel {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ip;
using ::testing::IsEmpty;
using testing::KernelTest;
using ::testing::Not;
using testing::ping;
using testing::prefix;
using ::testing::UnorderedElementsAre;

class Interfaces : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (IsSkipped()) return;
    a_ = make_netns();
    b_ = make_netns();
    auto pair = wiring_.ensure_veth({.mark = mark(), .a = {a_, "nsm-1"}, .b = {b_, "nse-1"}, .mtu = 9000});
    ASSERT_DONE(pair);
    pair_ = *pair;
    ASSERT_DONE(apply(*b_, pair_.b, far_, LinkState::fresh));
  }

  void set(const InterfaceConfig& config) {
    ASSERT_DONE(apply(*a_, link_of(*a_, "nsm-1"), config, std::exchange(state_, LinkState::kept)));
  }

  std::vector<std::string> addresses() {
    std::vector<std::string> out;
    const auto found = list_addresses(*a_, pair_.a.index).value();
    for (const auto& address : found) out.push_back(address.to_string());
    return out;
  }
  // Ours on the interface, "DESTINATION [via GATEWAY]", of one table.
  std::vector<std::string> routes(std::uint32_t table = RT_TABLE_MAIN) {
    std::vector<std::string> out;
    const auto found = list_routes(*a_).value();
    for (const auto& route : found) {
      if (route.protocol != kRouteProtocol || route.table != table || route.link != pair_.a.index) continue;
      out.push_back(route.destination.to_string() + (route.gateway ? " via " + route.gateway->to_string() : ""));
    }
    return out;
  }
  std::vector<std::string> rules() {
    std::vector<std::string> out;
    const auto found = list_rules(*a_).value();
    for (const auto& rule : found) {
      if (rule.protocol == kRouteProtocol) out.push_back(rule.to_string());
    }
    return out;
  }

  std::shared_ptr<Netns> a_;
  std::shared_ptr<Netns> b_;
  VethPair pair_;
  LinkState state_ = LinkState::fresh;
  const InterfaceConfig near_{.addresses = {prefix("172.16.1.2/32"), prefix("2001:db8::2/128")},
                              .peers = {prefix("172.16.1.1/32"), prefix("2001:db8::1/128")}};
  const InterfaceConfig far_{
      .addresses = {prefix("172.16.1.1/32"), prefix("2001:db8::1/128"), prefix("172.16.9.1/32"),
                    prefix("2001:db8:9::1/128"), prefix("10.200.0.1/32"), prefix("2001:db8:a::1/128")},
      .peers = {prefix("172.16.1.2/32"), prefix("2001:db8::2/128"), prefix("172.16.9.2/32"),
                prefix("2001:db8:9::2/128")}};
};

TEST_F(Interfaces, AddressesAndHostRoutesOfThePeers) {
  set(near_);
  EXPECT_THAT(addresses(), UnorderedElementsAre("172.16.1.2/32", "2001:db8::2/128"));
  EXPECT_THAT(routes(), UnorderedElementsAre("172.16.1.1/32", "2001:db8::1/128"));
  EXPECT_TRUE(ping(*a_, "172.16.1.1"));
  EXPECT_TRUE(ping(*a_, "2001:db8::1"));
}

TEST_F(Interfaces, NoHostRouteForAPeerThatAnAddressCovers) {
  auto config = near_;
  config.addresses = {prefix("172.16.1.2/24"), prefix("2001:db8::2/64")};
  set(config);
  EXPECT_THAT(routes(), IsEmpty());
  EXPECT_TRUE(ping(*a_, "172.16.1.1"));
}

TEST_F(Interfaces, BroadcastIsSetWhereASubnetHasOne) {
  auto config = near_;
  config.addresses = {prefix("172.16.1.2/24"), prefix("10.1.0.0/31")};
  set(config);
  std::map<std::string, std::string> broadcasts;
  ifaddrmsg header{};
  header.ifa_family = AF_INET;
  ASSERT_DONE(a_->route().dump(Message(RTM_GETADDR, 0, header), "addresses", [&](const Object& object) {
    const auto attributes = object.attributes<IFA_MAX>(sizeof(ifaddrmsg));
    const auto broadcast = address_of(attributes[IFA_BROADCAST]);
    broadcasts[address_of(attributes[IFA_LOCAL])->to_string()] = broadcast ? broadcast->to_string() : "";
  }));
  EXPECT_EQ(broadcasts["172.16.1.2"], "172.16.1.255");
  EXPECT_EQ(broadcasts["10.1.0.0"], "");
}

TEST_F(Interfaces, Ipv6AddressesAreUsableAtOnce) {
  set(near_);
  std::uint32_t flags = IFA_F_TENTATIVE;
  ifaddrmsg header{};
  header.ifa_family = AF_INET6;
  ASSERT_DONE(a_->route().dump(Message(RTM_GETADDR, 0, header), "addresses", [&](const Object& object) {
    const auto attributes = object.attributes<IFA_MAX>(sizeof(ifaddrmsg));
    if (address_of(attributes[IFA_ADDRESS]) == ip("2001:db8::2")) flags = u32_of(attributes[IFA_FLAGS]).value();
  }));
  EXPECT_EQ(flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED), 0U);
  EXPECT_NE(flags & IFA_F_PERMANENT, 0U);
}

TEST_F(Interfaces, Ipv6IsSwitchedOnWhereTheNamespaceHasItOff) {
  ASSERT_DONE(a_->write_sysctl("ipv6/conf/nsm-1/disable_ipv6", "1"));
  set(near_);
  EXPECT_EQ(a_->read_sysctl("ipv6/conf/nsm-1/disable_ipv6"), "0");
  EXPECT_TRUE(ping(*a_, "2001:db8::1"));
}

TEST_F(Interfaces, EveryGroupMayPing) {
  set(near_);
  EXPECT_EQ(a_->read_sysctl("ipv4/ping_group_range"), "0\t2147483647");
}

TEST_F(Interfaces, HealChangesTheAddresses) {
  auto config = near_;
  config.routes = {{.destination = prefix("10.9.0.0/16")}};
  config.neighbours = {{.address = ip("172.16.1.1"), .mac = pair_.b.mac}};
  set(config);
  set({.addresses = {prefix("172.16.9.2/32"), prefix("2001:db8:9::2/128")},
       .peers = {prefix("172.16.9.1/32"), prefix("2001:db8:9::1/128")}});
  EXPECT_THAT(addresses(), UnorderedElementsAre("172.16.9.2/32", "2001:db8:9::2/128"));
  EXPECT_THAT(routes(), UnorderedElementsAre("172.16.9.1/32", "2001:db8:9::1/128"));
  EXPECT_THAT(list_permanent_neighbours(*a_, pair_.a.index).value(), IsEmpty());
  EXPECT_TRUE(ping(*a_, "172.16.9.1"));
  EXPECT_TRUE(ping(*a_, "2001:db8:9::1"));
}

TEST_F(Interfaces, RemovingAPrimaryAddressKeepsItsSubnetsOthers) {
  auto config = near_;
  config.addresses = {prefix("172.16.1.2/24"), prefix("172.16.1.3/24")};
  set(config);
  config.addresses = {prefix("172.16.1.3/24")};
  set(config);
  EXPECT_THAT(addresses(), ElementsAre("172.16.1.3/24"));
}

TEST_F(Interfaces, RepeatingChangesNothing) {
  auto config = near_;
  config.routes = {{.destination = prefix("10.200.0.0/16")}, {.destination = prefix("2001:db8:a::/64")}};
  config.policies = {{.from = prefix("172.16.1.2/32")}};
  config.neighbours = {{.address = ip("172.16.1.1"), .mac = pair_.b.mac}};
  set(config);
  const auto before = std::tuple(addresses(), routes(), routes(1), rules(), list_rules(*a_)->size());
  set(config);
  set(config);
  EXPECT_EQ(std::tuple(addresses(), routes(), routes(1), rules(), list_rules(*a_)->size()), before);
  EXPECT_TRUE(ping(*a_, "10.200.0.1"));
}

TEST_F(Interfaces, DamageIsRepaired) {
  auto config = near_;
  config.neighbours = {{.address = ip("172.16.1.1"), .mac = pair_.b.mac}};
  set(config);
  ifinfomsg down{};
  down.ifi_index = pair_.a.index;
  down.ifi_change = IFF_UP;
  ASSERT_DONE(a_->route().request(Message(RTM_SETLINK, 0, down), "down"));
  set(config);
  EXPECT_THAT(addresses(), UnorderedElementsAre("172.16.1.2/32", "2001:db8::2/128"));
  EXPECT_TRUE(ping(*a_, "172.16.1.1"));
  EXPECT_TRUE(ping(*a_, "2001:db8::1"));
}

TEST_F(Interfaces, RoutesGoThroughThePeerUnlessToldOtherwise) {
  auto config = near_;
  config.routes = {{.destination = prefix("10.200.0.7/16")},
                   {.destination = prefix("2001:db8:a::/64")},
                   {.destination = prefix("172.16.1.1/32")},
                   {.destination = prefix("10.201.0.0/16"), .next_hop = ip("172.16.77.77")}};
  set(config);
  EXPECT_THAT(routes(), UnorderedElementsAre("172.16.1.1/32", "2001:db8::1/128", "10.200.0.0/16 via 172.16.1.1",
                                             "2001:db8:a::/64 via 2001:db8::1", "10.201.0.0/16 via 172.16.77.77"));
  EXPECT_TRUE(ping(*a_, "10.200.0.1"));
  EXPECT_TRUE(ping(*a_, "2001:db8:a::1"));
  config.routes = {{.destination = prefix("10.201.0.0/16"), .next_hop = ip("172.16.77.78")}};
  set(config);
  EXPECT_THAT(routes(), UnorderedElementsAre("172.16.1.1/32", "2001:db8::1/128", "10.201.0.0/16 via 172.16.77.78"));
}

TEST_F(Interfaces, NeighboursArePermanentAndFollow) {
  const auto first = wire::MacAddress::parse("02:00:00:00:00:01").value();
  const auto second = wire::MacAddress::parse("02:00:00:00:00:02").value();
  auto config = near_;
  config.neighbours = {{.address = ip("172.16.1.1"), .mac = first}, {.address = ip("2001:db8::1"), .mac = first}};
  set(config);
  EXPECT_THAT(list_permanent_neighbours(*a_, pair_.a.index).value(),
              UnorderedElementsAre(Neighbour{ip("172.16.1.1"), first}, Neighbour{ip("2001:db8::1"), first}));
  config.neighbours = {{.address = ip("172.16.1.1"), .mac = second}};
  set(config);
  EXPECT_THAT(list_permanent_neighbours(*a_, pair_.a.index).value(), ElementsAre(Neighbour{ip("172.16.1.1"), second}));
}

TEST_F(Interfaces, MacIsSet) {
  auto config = near_;
  config.mac = wire::MacAddress::parse("02:12:34:56:78:9a").value();
  set(config);
  EXPECT_EQ(link_of(*a_, "nsm-1").mac, config.mac);
  config.mac = wire::MacAddress::parse("01:00:5e:00:00:01").value();
  const auto refused = apply(*a_, pair_.a, config, LinkState::kept);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("unicast"));
}

TEST_F(Interfaces, ContradictionsAreRefused) {
  auto config = near_;
  config.mtu = 1000;
  EXPECT_THAT(apply(*a_, pair_.a, config, LinkState::kept).error().message(),
              AllOf(HasSubstr("MTU 1000"), HasSubstr("1280")));
  config = near_;
  config.routes = {{.destination = prefix("10.0.0.0/8"), .next_hop = ip("::1")}};
  EXPECT_THAT(apply(*a_, pair_.a, config, LinkState::kept).error().message(), HasSubstr("other family"));
}

TEST_F(Interfaces, PolicyRoutesSendMatchingTrafficToTablesOfTheirOwn) {
  auto config = near_;
  config.policies = {
      {.from = prefix("172.16.3.1/32"),
       .protocol = 6,
       .destination_port = PortRange{6666, 6666},
       .routes = {{.destination = prefix("172.16.4.0/24"), .next_hop = ip("172.16.1.9")}}},
      {.from = prefix("2001:db8:3::/64"), .source_port = PortRange{1000, 2000}},
      {.protocol = 17, .destination_port = PortRange{53, 53}, .routes = {{.destination = prefix("0.0.0.0/0")}}},
  };
  set(config);
  EXPECT_THAT(rules(), UnorderedElementsAre("from 172.16.3.1/32 ipproto 6 dport 6666 lookup 1",
                                            "from 2001:db8:3::/64 sport 1000-2000 lookup 2",
                                            "from all ipproto 17 dport 53 lookup 3"));
  EXPECT_THAT(routes(1), ElementsAre("172.16.4.0/24 via 172.16.1.9"));
  EXPECT_THAT(routes(2), ElementsAre("::/0 via 2001:db8::1"));
  EXPECT_THAT(routes(3), ElementsAre("0.0.0.0/0 via 172.16.1.1"));
}

TEST_F(Interfaces, PolicyRoutesCarryPackets) {
  auto config = near_;
  config.policies = {{.from = prefix("172.16.1.2/32"), .routes = {{.destination = prefix("10.200.0.0/16")}}}};
  set(config);
  // Without an address bound there is no source to match before the route is chosen; the main table has no way there.
  EXPECT_FALSE(testing::ping_once(*a_, ip("10.200.0.1"), 56));
  config.policies = {{.protocol = IPPROTO_ICMP, .routes = {{.destination = prefix("10.200.0.0/16")}}}};
  set(config);
  EXPECT_TRUE(ping(*a_, "10.200.0.1"));
}

TEST_F(Interfaces, PolicyRoutesAreDiffed) {
  auto config = near_;
  const Policy first{.from = prefix("172.16.3.1/32")};
  const Policy second{.from = prefix("172.16.3.2/32")};
  const Policy third{.from = prefix("172.16.3.3/32"), .routes = {{.destination = prefix("10.5.0.0/16")}}};
  config.policies = {first, second};
  set(config);
  EXPECT_THAT(rules(), UnorderedElementsAre("from 172.16.3.1/32 lookup 1", "from 172.16.3.2/32 lookup 2"));
  config.policies = {third, second};
  set(config);
  EXPECT_THAT(rules(), UnorderedElementsAre("from 172.16.3.2/32 lookup 2", "from 172.16.3.3/32 lookup 3"));
  EXPECT_THAT(routes(1), IsEmpty());
  config.policies[0].routes = {{.destination = prefix("10.6.0.0/16")}};
  set(config);
  EXPECT_THAT(routes(3), ElementsAre("10.6.0.0/16 via 172.16.1.1"));
  config.policies = {};
  set(config);
  EXPECT_THAT(rules(), IsEmpty());
  EXPECT_THAT(routes(2), IsEmpty());
  EXPECT_THAT(routes(3), IsEmpty());
}

TEST_F(Interfaces, RulesOfAnotherConnectionAndOfOthersStay) {
  auto other = wiring_.ensure_veth({.mark = mark("conn-2"), .a = {a_, "nsm-2"}, .b = {b_, "nse-2"}, .mtu = 1500});
  ASSERT_DONE(other);
  ASSERT_DONE(apply(
      *a_, other->a,
      {.addresses = {prefix("172.17.0.2/32")}, .peers = {prefix("172.17.0.1/32")}, .policies = {{.protocol = 17}}},
      LinkState::fresh));
  auto config = near_;
  config.policies = {{.from = prefix("172.16.3.1/32")}};
  set(config);
  EXPECT_THAT(rules(), UnorderedElementsAre("from all ipproto 17 lookup 1", "from 172.16.3.1/32 lookup 2"));
  const auto all = list_rules(*a_)->size();
  ASSERT_DONE(wiring_.remove(mark(), {{a_, "nsm-1"}, {b_, "nse-1"}}));
  EXPECT_THAT(rules(), ElementsAre("from all ipproto 17 lookup 1"));
  EXPECT_EQ(list_rules(*a_)->size(), all - 1);
}

TEST(PolicyText, PortsAndProtocols) {
  EXPECT_EQ(PortRange::parse("80").value().to_string(), "80");
  EXPECT_EQ(PortRange::parse("6667-6670").value().to_string(), "6667-6670");
  for (const char* text : {"", "0", "65536", "2-1", "-", "1-", "x", "1-2-3", "+1"})
    EXPECT_FALSE(PortRange::parse(text)) << text;
  EXPECT_EQ(parse_ip_protocol("6"), 6);
  EXPECT_EQ(parse_ip_protocol("udp"), 17);
  for (const char* text : {"", "256", "-1", "http"}) EXPECT_FALSE(parse_ip_protocol(text)) << text;
}

class Underlays : public KernelTest {};

TEST_F(Underlays, DefaultRouteTellsTheTunnelAddress) {
  const auto node = make_netns();
  const auto router = make_netns();
  auto none = default_underlay(*node);
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message(), HasSubstr("NSM_TUNNEL_IP"));
  make_foreign_veth(*node, "eth0", *router, "r0", {prefix("192.0.2.7/24"), prefix("2001:db8:ff::7/64")});
  make_foreign_veth(*node, "eth1", *router, "r1", {prefix("198.51.100.7/24")});
  const auto add_default = [&](const std::string& name, std::string_view gateway, std::uint32_t metric) {
    const auto next = ip(gateway);
    auto route = resolve({.destination = wire::Prefix(next, 0), .next_hop = next}, {}, link_of(*node, name).index,
                         RT_TABLE_MAIN);
    route.protocol = RTPROT_STATIC;
    route.metric = metric;
    ASSERT_DONE(node->route().request(replace_route(route), "default route"));
  };
  add_default("eth0", "2001:db8:ff::1", 1024);
  EXPECT_EQ(default_underlay(*node)->address, ip("2001:db8:ff::7"));
  add_default("eth1", "198.51.100.1", 200);
  EXPECT_EQ(default_underlay(*node)->address, ip("198.51.100.7"));
  add_default("eth0", "192.0.2.1", 100);
  const auto found = default_underlay(*node);
  ASSERT_DONE(found);
  EXPECT_EQ(found->address, ip("192.0.2.7"));
  EXPECT_EQ(found->interface, "eth0");
  EXPECT_EQ(found->mtu, 1500U);
  EXPECT_EQ(default_underlay(*node, wire::Family::v6)->address, ip("2001:db8:ff::7"));
  EXPECT_EQ(find_underlay(*node, ip("198.51.100.7"))->interface, "eth1");
  const auto absent = find_underlay(*node, ip("203.0.113.1"));
  ASSERT_FALSE(absent);
  EXPECT_THAT(absent.error().message(), HasSubstr("203.0.113.1"));
}

}  // namespace
}  // namespace kernel
