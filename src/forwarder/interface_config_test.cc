// SPDX-License-Identifier: Apache-2.0
#include "forwarder/interface_config.h"

#include <gmock/gmock.h>

namespace forwarder {
namespace {

using base::Code;
using connectioncontext::ConnectionContext;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

ConnectionContext both_sides() {
  ConnectionContext context;
  auto& ip = *context.mutable_ip_context();
  ip.add_src_ip_addrs("172.16.0.1/32");
  ip.add_src_ip_addrs("2001:db8::1");
  ip.add_dst_ip_addrs("172.16.0.2/32");
  ip.add_src_routes()->set_prefix("10.1.0.0/16");
  auto& back = *ip.add_dst_routes();
  back.set_prefix("10.2.0.0/16");
  back.set_nexthop("172.16.0.9");
  auto& policy = *ip.add_policies();
  policy.set_from("172.16.0.7");
  policy.set_proto("tcp");
  policy.set_dst_port("80");
  policy.set_src_port("1000-2000");
  policy.add_routes()->set_prefix("0.0.0.0/0");
  auto& neighbour = *ip.add_ip_neighbors();
  neighbour.set_ip("172.16.0.2");
  neighbour.set_hardware_address("02:00:00:00:00:02");
  context.mutable_ethernet_context()->set_src_mac("02:00:00:00:00:01");
  context.mutable_ethernet_context()->set_dst_mac("02:00:00:00:00:02");
  context.set_mtu(1400);
  return context;
}

wire::Prefix prefix(const char* text) { return wire::Prefix::parse(text).value(); }

TEST(InterfaceConfigTest, TheClientsInterfaceIsTheSource) {
  const auto config = interface_config(both_sides(), Side::client).value();
  EXPECT_THAT(config.addresses, ElementsAre(prefix("172.16.0.1/32"), prefix("2001:db8::1/128")));
  EXPECT_THAT(config.peers, ElementsAre(prefix("172.16.0.2/32")));
  EXPECT_THAT(config.routes, ElementsAre(kernel::Route{prefix("10.1.0.0/16"), std::nullopt}));
  EXPECT_EQ(config.mac, wire::MacAddress::parse("02:00:00:00:00:01").value());
  EXPECT_EQ(config.mtu, 1400U);
}

TEST(InterfaceConfigTest, TheEndpointsInterfaceIsTheDestination) {
  const auto config = interface_config(both_sides(), Side::endpoint).value();
  EXPECT_THAT(config.addresses, ElementsAre(prefix("172.16.0.2/32")));
  EXPECT_THAT(config.peers, ElementsAre(prefix("172.16.0.1/32"), prefix("2001:db8::1/128")));
  EXPECT_THAT(config.routes,
              ElementsAre(kernel::Route{prefix("10.2.0.0/16"), wire::IpAddress::parse("172.16.0.9").value()}));
  EXPECT_EQ(config.mac, wire::MacAddress::parse("02:00:00:00:00:02").value());
}

TEST(InterfaceConfigTest, PolicyRoutesAreTheClientsAlone) {
  const auto policies = interface_config(both_sides(), Side::client).value().policies;
  ASSERT_THAT(policies, SizeIs(1));
  EXPECT_EQ(policies[0].from, prefix("172.16.0.7/32"));
  EXPECT_EQ(policies[0].protocol, 6);
  EXPECT_EQ(policies[0].destination_port, (kernel::PortRange{80, 80}));
  EXPECT_EQ(policies[0].source_port, (kernel::PortRange{1000, 2000}));
  EXPECT_THAT(policies[0].routes, SizeIs(1));
  EXPECT_THAT(interface_config(both_sides(), Side::endpoint).value().policies, IsEmpty());
}

TEST(InterfaceConfigTest, AContextThatSaysNothingChangesNothing) {
  const auto config = interface_config({}, Side::client).value();
  EXPECT_THAT(config.addresses, IsEmpty());
  EXPECT_THAT(config.routes, IsEmpty());
  EXPECT_FALSE(config.mac);
  EXPECT_EQ(config.mtu, 0U);
}

TEST(InterfaceConfigTest, WhateverCannotBeReadIsNamed) {
  using Ip = connectioncontext::IPContext;
  const auto refused = [](const char* bad, const std::function<void(Ip&)>& spoil) {
    ConnectionContext context = both_sides();
    spoil(*context.mutable_ip_context());
    const auto config = interface_config(context, Side::client);
    ASSERT_FALSE(config) << bad;
    EXPECT_EQ(config.error().code(), Code::invalid_argument) << bad;
    EXPECT_THAT(config.error().message(), HasSubstr(bad));
  };
  refused("172.16.0.300", [](Ip& ip) { ip.add_src_ip_addrs("172.16.0.300"); });
  refused("172.16.0.2/33", [](Ip& ip) { ip.add_dst_ip_addrs("172.16.0.2/33"); });
  refused("10.1/16", [](Ip& ip) { ip.mutable_src_routes(0)->set_prefix("10.1/16"); });
  refused("gateway", [](Ip& ip) { ip.mutable_src_routes(0)->set_nexthop("gateway"); });
  refused("policy route: ", [](Ip& ip) { ip.mutable_policies(0)->set_from("me"); });
  refused("quic", [](Ip& ip) { ip.mutable_policies(0)->set_proto("quic"); });
  refused("0-80", [](Ip& ip) { ip.mutable_policies(0)->set_dst_port("0-80"); });
  refused("90-80", [](Ip& ip) { ip.mutable_policies(0)->set_src_port("90-80"); });
  refused("default", [](Ip& ip) { ip.mutable_policies(0)->mutable_routes(0)->set_prefix("default"); });
  refused("172.16.0.2/32", [](Ip& ip) { ip.mutable_ip_neighbors(0)->set_ip("172.16.0.2/32"); });
  refused("02:00:00:00:00", [](Ip& ip) { ip.mutable_ip_neighbors(0)->set_hardware_address("02:00:00:00:00"); });
}

TEST(InterfaceConfigTest, ALinkAddressMattersOnItsOwnSideAlone) {
  ConnectionContext context = both_sides();
  context.mutable_ethernet_context()->set_dst_mac("no");
  EXPECT_TRUE(interface_config(context, Side::client));
  EXPECT_FALSE(interface_config(context, Side::endpoint));
}

}  // namespace
}  // namespace forwarder
