// SPDX-License-Identifier: Apache-2.0
#include "lab/observe.h"

#include <gtest/gtest.h>

namespace lab {
namespace {

TEST(Observe, LinksAreReadFromIp) {
  const auto links = parse_links(R"([
    {"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP"],"mtu":65536,"addr_info":[{"local":"127.0.0.1","prefixlen":8,"scope":"host"}]},
    {},
    {"ifindex":7,"link_index":9,"link_netnsid":0,"ifname":"nsm-1","flags":["BROADCAST","UP","LOWER_UP"],"mtu":9000,
     "linkinfo":{"info_kind":"veth"},
     "addr_info":[{"local":"172.16.1.101","prefixlen":32,"scope":"global"},
                  {"local":"fe80::1","prefixlen":64,"scope":"link"}],
     "stats64":{"rx":{"packets":12},"tx":{"packets":34}}},
    {"ifindex":8,"ifname":"down0","flags":["BROADCAST"],"mtu":1500}])");
  ASSERT_TRUE(links) << links.error().message();
  ASSERT_EQ(links->size(), 3U);
  const auto link = find_link(*links, "nsm-1");
  ASSERT_TRUE(link);
  EXPECT_EQ(link->kind, "veth");
  EXPECT_EQ(link->index, 7);
  EXPECT_EQ(link->peer_index, 9);
  EXPECT_TRUE(link->peer_elsewhere);
  EXPECT_TRUE(link->up);
  EXPECT_EQ(link->mtu, 9000U);
  EXPECT_EQ(link->addresses, std::set<std::string>{"172.16.1.101/32"});
  EXPECT_EQ(link->received_packets, 12U);
  EXPECT_EQ(link->sent_packets, 34U);
  EXPECT_FALSE(find_link(*links, "down0")->up);
  EXPECT_EQ(find_link_by_address(*links, "172.16.1.101/32")->name, "nsm-1");
  EXPECT_FALSE(find_link_by_address(*links, "172.16.1.100/32"));
  EXPECT_FALSE(find_link(*links, "nsm-2"));
}

TEST(Observe, NoLinksAtAllIsNoError) { EXPECT_TRUE(parse_links("")->empty()); }

TEST(Observe, WhatIsNotJsonIsAnError) { EXPECT_FALSE(parse_links("Device does not exist")); }

TEST(Observe, PingStatisticsAreRead) {
  const auto result = parse_ping(
      "4 packets transmitted, 3 received, 25% packet loss, time 612ms\nrtt min/avg/max/mdev = 0.036/0.046/0.056/0.007 "
      "ms\n");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->sent, 4);
  EXPECT_EQ(result->answered, 3);
  EXPECT_DOUBLE_EQ(result->min_ms, 0.036);
  EXPECT_DOUBLE_EQ(result->average_ms, 0.046);
  EXPECT_DOUBLE_EQ(result->max_ms, 0.056);
}

TEST(Observe, PingWithoutAnswersHasNoTimes) {
  const auto result = parse_ping("4 packets transmitted, 0 received, +4 errors, 100% packet loss, time 3050ms\n");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->answered, 0);
  EXPECT_DOUBLE_EQ(result->average_ms, 0);
}

TEST(Observe, PingWithoutStatisticsIsAnError) { EXPECT_FALSE(parse_ping("ping: connect: Network is unreachable\n")); }

TEST(Observe, ThroughputIsWhatTheReceiverGot) {
  const auto mbps =
      parse_iperf_mbps(R"({"end":{"sum_sent":{"bits_per_second":9e9},"sum_received":{"bits_per_second":1.5e9}}})");
  ASSERT_TRUE(mbps);
  EXPECT_DOUBLE_EQ(*mbps, 1500);
  EXPECT_FALSE(parse_iperf_mbps(R"({"error":"unable to connect"})"));
  EXPECT_FALSE(parse_iperf_mbps(R"({"end":{}})"));
  EXPECT_FALSE(parse_iperf_mbps(""));
}

TEST(Observe, UnderlayCountersAreReadByPort) {
  const auto counts = parse_counters(R"({"nftables":[{"metainfo":{}},
    {"counter":{"name":"tunnel_node1","packets":16}},{"counter":{"name":"udp_node1","packets":2}},
    {"counter":{"name":"echo_node1","packets":1}},{"counter":{"name":"tunnel_node2","packets":5}}]})");
  ASSERT_TRUE(counts);
  EXPECT_EQ(counts->at("node1").tunnel, 16U);
  EXPECT_EQ(counts->at("node1").udp, 2U);
  EXPECT_EQ(counts->at("node1").echo, 1U);
  EXPECT_EQ(counts->at("node2").tunnel, 5U);
  EXPECT_FALSE(parse_counters(R"({"nftables":[]})"));
}

}  // namespace
}  // namespace lab
