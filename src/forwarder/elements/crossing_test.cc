// SPDX-License-Identifier: Apache-2.0
#include "forwarder/elements/crossing.h"

#include <gmock/gmock.h>

#include "fakes/chain_bench.h"
#include "fakes/fake_plane.h"
#include "forwarder/elements/vxlan_mechanism.h"
#include "mesh/elements/descriptors/held_descriptors.h"

namespace forwarder {
namespace {

using base::Code;
using base::Result;
using base::Task;
using mesh::Connection;
using mesh::Mechanism;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using Parameters = std::map<std::string, std::string>;

const rpc::InodeKey kClientNetns{4, 100};
const rpc::InodeKey kEndpointNetns{4, 200};

Mechanism mechanism(std::string_view cls, std::string_view type, const Parameters& parameters) {
  Mechanism made;
  made.set_cls(std::string(cls));
  made.set_type(std::string(type));
  for (const auto& [key, value] : parameters) (*made.mutable_parameters())[key] = value;
  return made;
}
Mechanism interface(rpc::InodeKey netns, const std::string& name) {
  return mechanism(mesh::kLocal, mesh::kKernel, {{"inodeURL", rpc::inode_url(netns)}, {"name", name}});
}

// What stands above crossing: the next hop is known, both neighbours' files are there. Refuses answers when told to.
class Above final : public mesh::Element {
 public:
  Task<Result<Connection>> request(mesh::Call& call, mesh::NetworkServiceRequest request) override {
    call.state().get<mesh::NextHop>().url = hop;
    auto& held = call.state().get<mesh::HeldDescriptors>();
    held.hold(rpc::Descriptor::simulated(kClientNetns));
    held.hold(rpc::Descriptor::simulated(kEndpointNetns));
    auto connection = co_await call.next(std::move(request));
    if (connection && refuses) {
      co_await call.undo_below(*connection);
      co_return base::fail(Code::permission_denied, "not with that answer");
    }
    co_return connection;
  }
  std::string hop = "unix:///endpoint";
  bool refuses = false;
};

class CrossingTest : public ::testing::Test {
 protected:
  explicit CrossingTest(bool allow_plaintext_ip = false) {
    CrossingOptions options;
    options.underlay.address = wire::IpAddress::parse("10.0.0.1").value();
    options.allow_plaintext_ip = allow_plaintext_ip;
    bench.emplace(above, std::make_shared<Crossing>(plane, std::move(options)));
    bench->below->on_request = [this](mesh::Call&, mesh::NetworkServiceRequest& request) {
      *request.mutable_connection()->mutable_mechanism() = answered;
    };
    bench->below->on_close = [this](const Connection&) { wires_at_close = plane.wires.size(); };
  }

  static mesh::NetworkServiceRequest asking() {
    auto request = fakes::ChainBench::asking("c1");
    Connection& connection = *request.mutable_connection();
    connection.set_payload("ETHERNET");
    connection.mutable_path()->add_path_segments()->set_id("c1");
    *connection.mutable_mechanism() = interface(kClientNetns, "nsm-1");
    return request;
  }
  Result<Connection> request() { return bench->request(asking()); }
  const mesh::NetworkServiceRequest& sent() const { return bench->below->requests.back(); }
  const Connection& closed() const { return bench->below->closes.back(); }
  std::string endpoint_interface() const { return std::get<KernelEnd>(plane.wires.at("c1").endpoint).interface; }

  fakes::FakePlane plane;
  std::shared_ptr<Above> above = std::make_shared<Above>();
  Mechanism answered = interface(kEndpointNetns, "nse-1");  // by the next hop
  std::optional<std::size_t> wires_at_close;                // when the close reached the next hop
  std::optional<fakes::ChainBench> bench;
};

TEST_F(CrossingTest, JoinsWhatEachNeighbourChose) {
  const auto connection = request();
  ASSERT_TRUE(connection);
  EXPECT_EQ(connection->mechanism().parameters().at("name"), "nsm-1");
  const auto& wire = plane.wires.at("c1");
  EXPECT_EQ(std::get<KernelEnd>(wire.client).netns.key(), kClientNetns);
  EXPECT_EQ(std::get<KernelEnd>(wire.client).interface, "nsm-1");
  EXPECT_EQ(std::get<KernelEnd>(wire.endpoint).netns.key(), kEndpointNetns);
  EXPECT_EQ(endpoint_interface(), "nse-1");
}

TEST_F(CrossingTest, TheNextHopDoesNotSeeThePreviousOnesMechanism) {
  ASSERT_TRUE(request());
  EXPECT_FALSE(sent().connection().has_mechanism());
  ASSERT_EQ(sent().mechanism_preferences_size(), 1);
  EXPECT_EQ(sent().mechanism_preferences(0).type(), "KERNEL");
  EXPECT_THAT(sent().mechanism_preferences(0).parameters(), IsEmpty());
}

TEST_F(CrossingTest, APlugThatFailsLeavesNothing) {
  plane.fail_next(Code::already_exists, "VNI 78 is in use");
  const auto refused = request();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::already_exists);
  EXPECT_EQ(refused.error().message(), "plugging connection c1 to service icmp-responder: VNI 78 is in use");
  EXPECT_THAT(bench->below->closes, SizeIs(1));
  EXPECT_THAT(plane.wires, IsEmpty());
  EXPECT_EQ(bench->begin->size(), 0U);
}

TEST_F(CrossingTest, NothingIsPluggedWhenTheNextHopRefuses) {
  bench->below->fail_next(Code::unavailable, "no endpoint");
  EXPECT_FALSE(request());
  EXPECT_THAT(plane.plugs, IsEmpty());
}

TEST_F(CrossingTest, AnAnswerRefusedAboveIsUnpluggedAgain) {
  above->refuses = true;
  EXPECT_FALSE(request());
  EXPECT_THAT(plane.unplugs, ElementsAre("c1"));
  EXPECT_THAT(plane.wires, IsEmpty());
  EXPECT_THAT(bench->below->closes, SizeIs(1));
}

TEST_F(CrossingTest, AnEndpointThatMovedIsPluggedAnew) {
  const auto first = request();
  answered = interface(kEndpointNetns, "nse-2");
  ASSERT_TRUE(bench->request(bench->refreshing(*first)));
  EXPECT_EQ(sent().connection().mechanism().parameters().at("name"), "nse-1");  // what was agreed before
  EXPECT_EQ(endpoint_interface(), "nse-2");
}

TEST_F(CrossingTest, AConnectionThatLeavesTheNodeGetsATunnel) {
  const auto first = request();
  above->hop = "tcp://elsewhere";
  answered = mechanism(mesh::kRemote, mesh::kVxlan, {{"src_ip", "10.0.0.1"}, {"dst_ip", "10.0.0.2"}, {"vni", "78"}});
  ASSERT_TRUE(bench->request(bench->refreshing(*first)));
  EXPECT_FALSE(sent().connection().has_mechanism());
  EXPECT_EQ(sent().mechanism_preferences(0).type(), "VXLAN");
  EXPECT_EQ(std::get<VxlanEnd>(plane.wires.at("c1").endpoint).vni, 78U);
}

TEST_F(CrossingTest, AFailedRefreshLeavesTheWireAsItWas) {
  const auto first = request();
  bench->below->fail_next(Code::unavailable, "no endpoint");
  EXPECT_FALSE(bench->request(bench->refreshing(*first)));
  answered = interface(kEndpointNetns, "nse-2");
  plane.fail_next(Code::not_found, "the namespace is gone");
  EXPECT_FALSE(bench->request(bench->refreshing(*first)));
  EXPECT_EQ(endpoint_interface(), "nse-1");
  EXPECT_THAT(bench->below->closes, IsEmpty());
  ASSERT_TRUE(bench->close(*first));
  EXPECT_THAT(plane.wires, IsEmpty());
}

TEST_F(CrossingTest, ARefreshReportsWhatTheInterfacesCounted) {
  const auto first = request();
  EXPECT_EQ(first->path().path_segments(0).metrics().count("server_rx_packets"), 0U);
  const auto again = bench->request(bench->refreshing(*first));
  EXPECT_EQ(again->path().path_segments(0).metrics().at("server_rx_packets"), "11");
  EXPECT_EQ(again->path().path_segments(0).metrics().at("client_rx_packets"), "22");
}

TEST_F(CrossingTest, CloseUnplugsBeforeItTellsTheNextHop) {
  const auto connection = request();
  ASSERT_TRUE(bench->close(*connection));
  EXPECT_EQ(wires_at_close, 0U);
  EXPECT_EQ(closed().mechanism().parameters().at("name"), "nse-1");
}

TEST_F(CrossingTest, CloseTellsTheNextHopAlsoWhenUnpluggingFails) {
  const auto connection = request();
  plane.fail_next(Code::internal, "netlink is busy");
  const auto done = bench->close(*connection);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message(), HasSubstr("netlink is busy"));
  EXPECT_THAT(bench->below->closes, SizeIs(1));
}

TEST_F(CrossingTest, AnEndpointThatDoesNotPassItsNamespaceIsRefused) {
  answered = interface({4, 300}, "nse-1");
  const auto refused = request();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("'inode://4/300', but that file was not passed along"));
  EXPECT_THAT(bench->below->closes, SizeIs(1));
  EXPECT_THAT(plane.plugs, IsEmpty());
}

TEST_F(CrossingTest, ATunnelFromAnotherNodeEndsHere) {
  auto asked = asking();
  *asked.mutable_connection()->mutable_mechanism() =
      mechanism(mesh::kRemote, mesh::kVxlan, {{"src_ip", "10.0.0.9"}, {"dst_ip", "10.0.0.1"}, {"vni", "78"}});
  ASSERT_TRUE(bench->request(asked));
  const auto& end = std::get<VxlanEnd>(plane.wires.at("c1").client);
  EXPECT_EQ(end.local.to_string(), "10.0.0.1");
  EXPECT_EQ(end.remote.to_string(), "10.0.0.9");
}

TEST_F(CrossingTest, ATunnelFromAnotherFamilyIsRefusedAndUndone) {
  auto asked = asking();
  *asked.mutable_connection()->mutable_mechanism() =
      mechanism(mesh::kRemote, mesh::kVxlan, {{"src_ip", "2001:db8::9"}, {"dst_ip", "10.0.0.1"}, {"vni", "78"}});
  const auto refused = bench->request(asked);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("a tunnel from 10.0.0.1 to 2001:db8::9 mixes IPv4 and IPv6"));
  EXPECT_THAT(plane.plugs, IsEmpty());
  EXPECT_THAT(bench->below->closes, SizeIs(1));
}

class RemoteCrossing : public CrossingTest {
 protected:
  explicit RemoteCrossing(bool allow_plaintext_ip = false) : CrossingTest(allow_plaintext_ip) {
    above->hop = "tcp://elsewhere";
    answered = tunnel({});
  }
  // What a sane forwarder at 10.0.0.2 answers, but for some parameters.
  static Mechanism tunnel(const Parameters& changed) {
    Parameters parameters{{"src_ip", "10.0.0.1"}, {"src_port", "4789"}, {"dst_ip", "10.0.0.2"},
                          {"dst_port", "4789"},   {"vni", "78"},        {"MTU", "1446"}};
    for (const auto& [key, value] : changed) parameters[key] = value;
    return mechanism(mesh::kRemote, mesh::kVxlan, parameters);
  }
};

TEST_F(RemoteCrossing, OffersThisEndOfATunnelAndWhatItCarries) {
  const auto connection = request();
  ASSERT_TRUE(connection);
  ASSERT_EQ(sent().mechanism_preferences_size(), 1);
  const auto& offer = sent().mechanism_preferences(0).parameters();
  EXPECT_EQ(offer.at("src_ip"), "10.0.0.1");
  EXPECT_EQ(offer.at("src_port"), "4789");
  EXPECT_EQ(offer.at("MTU"), "1446");
  EXPECT_EQ(connection->context().mtu(), 1446U);
  const auto& end = std::get<VxlanEnd>(plane.wires.at("c1").endpoint);
  EXPECT_EQ(end.local.to_string(), "10.0.0.1");
  EXPECT_EQ(end.remote.to_string(), "10.0.0.2");
}

TEST_F(RemoteCrossing, AnMtuAboveWhatTheTunnelCarriesIsLowered) {
  bench->below->on_request = [this](mesh::Call&, mesh::NetworkServiceRequest& request) {
    *request.mutable_connection()->mutable_mechanism() = answered;
    request.mutable_connection()->mutable_context()->set_mtu(65000);
  };
  EXPECT_EQ(request()->context().mtu(), 1446U);
  EXPECT_EQ(plane.wires.at("c1").context.mtu(), 1446U);
}

TEST_F(RemoteCrossing, ATunnelThatCannotWorkIsRefusedAndUndone) {
  struct Lie {
    Parameters parameters;
    const char* named;  // in the error
  };
  const std::vector<Lie> lies{{{{"vni", "0"}}, "vni '0'"},
                              {{{"vni", "16777216"}}, "vni '16777216'"},
                              {{{"vni", "18446744073709551694"}}, "vni '18446744073709551694'"},
                              {{{"vni", "-1"}}, "vni '-1'"},
                              {{{"dst_ip", "2001:db8::2"}}, "mixes IPv4 and IPv6"},
                              {{{"dst_ip", "somewhere"}}, "parameter dst_ip"},
                              {{{"dst_ip", ""}}, "parameter dst_ip"},
                              {{{"dst_port", "8472"}}, "port 4789 at one end and 8472 at the other"},
                              {{{"src_port", "70325"}, {"dst_port", "70325"}}, "port 70325"}};
  for (const Lie& lie : lies) {
    answered = tunnel(lie.parameters);
    const auto refused = request();
    ASSERT_FALSE(refused) << lie.named;
    EXPECT_EQ(refused.error().code(), Code::invalid_argument) << lie.named;
    EXPECT_THAT(refused.error().message(), HasSubstr(lie.named));
  }
  EXPECT_THAT(plane.plugs, IsEmpty());
  EXPECT_THAT(bench->below->closes, SizeIs(lies.size()));
}

TEST_F(RemoteCrossing, AMechanismThatWasNotOfferedIsRefused) {
  // The files that the client brought are not another node's to name.
  answered = interface(kClientNetns, "eth0");
  const auto refused = request();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("KERNEL"));
  EXPECT_THAT(plane.plugs, IsEmpty());
  EXPECT_THAT(bench->below->closes, SizeIs(1));
}

TEST_F(RemoteCrossing, IpIsNotSentUnencryptedWithoutAllowance) {
  auto asked = asking();
  asked.mutable_connection()->set_payload("IP");
  const auto refused = bench->request(asked);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::failed_precondition);
  EXPECT_THAT(refused.error().message(), HasSubstr("PATCHBAY_ALLOW_PLAINTEXT_IP=true"));
  EXPECT_THAT(bench->below->requests, IsEmpty());
}

class PlaintextCrossing : public RemoteCrossing {
 protected:
  PlaintextCrossing() : RemoteCrossing(true) {}
};

TEST_F(PlaintextCrossing, UnencryptedIpIsOfferedUnderANameOfItsOwn) {
  auto asked = asking();
  asked.mutable_connection()->set_payload("IP");
  answered.set_type(std::string(kPlainVxlan));
  ASSERT_TRUE(bench->request(asked));
  ASSERT_EQ(sent().mechanism_preferences_size(), 1);
  EXPECT_EQ(sent().mechanism_preferences(0).type(), kPlainVxlan);
  EXPECT_EQ(plane.wires.at("c1").payload, "IP");
}

TEST_F(PlaintextCrossing, EthernetStaysWithTheStandardName) {
  ASSERT_TRUE(request());
  EXPECT_EQ(sent().mechanism_preferences(0).type(), "VXLAN");
}

}  // namespace
}  // namespace forwarder
