// SPDX-License-Identifier: Apache-2.0
#include "lab/plane.h"

#include <gtest/gtest.h>

namespace lab {
namespace {

LinkView link(const char* name, const char* kind, std::uint64_t packets) {
  return {.name = name, .kind = kind, .received_packets = packets, .sent_packets = packets};
}

// Two nodes, eight pings, all over VXLAN.
struct Remote {
  PlaneQuestion question{.pings = 8, .client_node = "node1", .endpoint_node = "node2"};
  PlaneSnapshot before{
      link("nsm-1", "vxlan", 5), link("nse-1", "vxlan", 5), {{"node1", {1, 0, 0}}, {"node2", {1, 0, 0}}}};
  PlaneSnapshot after{
      link("nsm-1", "vxlan", 13), link("nse-1", "vxlan", 13), {{"node1", {9, 0, 0}}, {"node2", {9, 0, 0}}}};
  PlaneVerdict judge() const { return judge_plane(question, before, after); }
};

// One node, eight pings, all over one veth pair.
struct Local {
  PlaneQuestion question{.pings = 8, .local = true, .client_node = "node1", .endpoint_node = "node1"};
  PlaneSnapshot before{link("nsm-1", "veth", 0), link("nse-1", "veth", 0), {{"node1", {3, 2, 1}}}};
  PlaneSnapshot after{link("nsm-1", "veth", 8), link("nse-1", "veth", 8), {{"node1", {3, 2, 1}}}};
  Local() {
    after.client->index = after.endpoint->peer_index = 4;
    after.endpoint->index = after.client->peer_index = 5;
    after.client->peer_elsewhere = after.endpoint->peer_elsewhere = true;
  }
  PlaneVerdict judge() const { return judge_plane(question, before, after); }
};

void expect_refused(const PlaneVerdict& verdict, std::string_view reason) {
  EXPECT_FALSE(verdict.good());
  EXPECT_EQ(verdict.plane, "none");
  EXPECT_NE(verdict.detail.find(reason), std::string::npos) << verdict.detail;
}

TEST(Plane, VxlanBetweenNodesIsTheKernelPlane) {
  const auto verdict = Remote().judge();
  EXPECT_TRUE(verdict.good()) << verdict.detail;
  EXPECT_EQ(verdict.plane, "kernel");
  EXPECT_EQ(verdict.wire, "vxlan");
}

TEST(Plane, APairWithinANodeIsTheKernelPlane) {
  const auto verdict = Local().judge();
  EXPECT_TRUE(verdict.good()) << verdict.detail;
  EXPECT_EQ(verdict.plane, "kernel");
  EXPECT_EQ(verdict.wire, "veth");
}

TEST(Plane, AMissingInterfaceIsRefused) {
  Remote run;
  run.after.endpoint.reset();
  expect_refused(run.judge(), "missing");
}

TEST(Plane, NoPingProvesNothing) {
  Remote run;
  run.question.pings = 0;
  expect_refused(run.judge(), "no ping");
}

TEST(Plane, APacketTooFewThroughTheDeviceIsRefused) {
  Remote run;
  run.after.client->received_packets = 12;
  expect_refused(run.judge(), "moved only 7 in and 8 out");
}

TEST(Plane, AnotherKindOfDeviceIsRefused) {
  Remote run;
  run.after.client->kind = "veth";
  expect_refused(run.judge(), "is a veth, not a vxlan");
}

TEST(Plane, ATunnelPacketTooFewOnEitherPortIsRefused) {
  for (const char* port : {"node1", "node2"}) {
    Remote run;
    run.after.underlay[port].tunnel = 8;
    expect_refused(run.judge(), std::string(port) + " put only 7");
  }
}

TEST(Plane, PingsInClearAreRefused) {
  Remote run;
  run.after.underlay["node1"].echo = 1;
  expect_refused(run.judge(), "in clear");
}

TEST(Plane, WithoutCountersNothingIsBelieved) {
  Remote run;
  run.after.underlay.clear();
  expect_refused(run.judge(), "no counter of node1");
}

TEST(Plane, AnythingOnTheUnderlayRefusesALocalWire) {
  Local tunnel;
  tunnel.after.underlay["node1"].tunnel += 1;
  expect_refused(tunnel.judge(), "crossed the underlay");
  Local udp;
  udp.after.underlay["node1"].udp += 1;
  expect_refused(udp.judge(), "crossed the underlay");
}

TEST(Plane, TwoPairsWithSomethingBetweenAreNotALocalWire) {
  Local stranger;
  stranger.after.client->peer_index = 9;
  expect_refused(stranger.judge(), "not the two ends");
  Local same_namespace;
  same_namespace.after.client->peer_elsewhere = false;
  expect_refused(same_namespace.judge(), "not the two ends");
}

}  // namespace
}  // namespace lab
