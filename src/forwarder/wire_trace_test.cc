// SPDX-License-Identifier: Apache-2.0
// Connections as NSM's own components make them, replayed with ours: which calls reach which process, in which order,
// and what is in them, for a Request, a refresh and a Close. The figures are those of two recorded runs: one node with
// a manager that has no registry behind it, and two nodes with a registry.
//
// Where ours differ, on purpose:
// - A client first asks the manager's monitor for a connection of its earlier life, as NSM's client command does; the
//   recorded runs had no such client.
// - Channels stay open from call to call; the recorded ones dial for each. Nothing of it is on the tape.
// - A manager watches a network service once for all its connections; the recorded one once a Request.
#include <gmock/gmock.h>

#include "fakes/mesh_processes.h"
#include "rpc/typed.h"

namespace forwarder {
namespace {

using fakes::CallTape;
using mesh::Connection;
using mesh::Mechanism;
using mesh::NetworkServiceRequest;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;
using namespace std::chrono_literals;
using Kind = CallTape::Kind;

template <typename Message>
Message parsed(const rpc::Bytes& body) {
  Message message;
  EXPECT_TRUE(message.ParseFromString(body));
  return message;
}

std::string selected(const rpc::Bytes& body) {
  const auto selector = parsed<mesh::MonitorScopeSelector>(body);
  std::string text;
  for (const auto& segment : selector.path_segments())
    text += " " + segment.name() + "/" + (segment.id().empty() ? "" : "id");
  return text;
}

// A call as one line: who was called, what for.
std::string line(const CallTape::Event& event) {
  const std::string& peer = event.peer;
  if (event.method == mesh::method::kRequest) return peer + " Request";
  if (event.method == mesh::method::kClose) return peer + " Close";
  if (event.method == mesh::method::kMonitor) return peer + " Monitor" + selected(event.body);
  if (event.method == mesh::Services::kFind) {
    const auto query = parsed<registry::NetworkServiceQuery>(event.body);
    return peer + " FindNS " + query.network_service().name() +
           (query.network_service().payload().empty() ? "" : " " + query.network_service().payload()) +
           (query.watch() ? " watch" : "");
  }
  if (event.method == mesh::Endpoints::kFind) {
    const auto query = parsed<registry::NetworkServiceEndpointQuery>(event.body);
    const auto& wanted = query.network_service_endpoint();
    std::string text = peer + " FindNSE";
    if (!wanted.name().empty()) text += " " + wanted.name();
    for (const auto& service : wanted.network_service_names()) text += " [" + service + "]";
    if (!wanted.url().empty()) text += " url=" + wanted.url();
    return text + (query.watch() ? " watch" : "");
  }
  return peer + event.method.substr(event.method.rfind('/'));
}

class ConnectionTrace : public ::testing::Test {
 protected:
  // All calls since the tape was cleared, in the order in which they came in.
  std::vector<std::string> calls(const std::string& peer = {}) const {
    std::vector<std::string> lines;
    for (const auto& event : world.tape.events) {
      if (event.kind == Kind::call && (peer.empty() || event.peer == peer)) lines.push_back(line(event));
    }
    return lines;
  }
  // Requests and closes, as they came in (>>>) and were answered (<<<).
  std::vector<std::string> course() const {
    std::vector<std::string> lines;
    for (const auto& event : world.tape.events) {
      if (event.method != mesh::method::kRequest && event.method != mesh::method::kClose) continue;
      const char* mark = event.kind == Kind::call ? ">>> " : event.kind == Kind::answer ? "<<< " : "failed ";
      lines.push_back(mark + event.peer);
    }
    return lines;
  }
  const CallTape::Event& event(Kind kind, const std::string& peer, const char* method) const {
    for (const auto& event : world.tape.events) {
      if (event.kind == kind && event.peer == peer && event.method == method) return event;
    }
    ADD_FAILURE() << "nothing of that kind on the tape: " << peer << " " << method;
    std::abort();
  }
  NetworkServiceRequest asked(const std::string& peer) const {
    return parsed<NetworkServiceRequest>(event(Kind::call, peer, mesh::method::kRequest).body);
  }
  Connection answered(const std::string& peer) const {
    return parsed<Connection>(event(Kind::answer, peer, mesh::method::kRequest).body);
  }
  Connection closed(const std::string& peer) const {
    return parsed<Connection>(event(Kind::call, peer, mesh::method::kClose).body);
  }
  // Where on the tape; the tape's size if it is not there.
  std::size_t position(Kind kind, const std::string& text) const {
    std::size_t at = 0;
    for (const auto& event : world.tape.events) {
      const bool bodiless = event.kind == Kind::end || event.kind == Kind::message;
      const std::string found = bodiless ? event.peer + event.method.substr(event.method.rfind('/')) : line(event);
      if (event.kind == kind && found == text) break;
      ++at;
    }
    return at;
  }

  static mesh::Labels parameters(const Mechanism& mechanism) { return mesh::ordered(mechanism.parameters()); }
  static std::vector<std::string> names(const Connection& connection) {
    std::vector<std::string> all;
    for (const auto& segment : connection.path().path_segments()) all.push_back(segment.name());
    return all;
  }
  static std::vector<std::string> ids(const Connection& connection) {
    std::vector<std::string> all;
    for (const auto& segment : connection.path().path_segments()) all.push_back(segment.id());
    return all;
  }
  // Whose token each segment carries.
  static std::vector<std::string> signers(const Connection& connection) {
    std::vector<std::string> all;
    for (const auto& segment : connection.path().path_segments()) {
      const std::string subject = mesh::token_subject(segment.token());
      all.push_back(subject.substr(subject.rfind('/') + 1));
      EXPECT_EQ(segment.has_expires(), !segment.token().empty());
    }
    return all;
  }
  static void expect_place(const Connection& connection, std::uint32_t index, std::size_t segments) {
    EXPECT_EQ(connection.path().index(), index);
    ASSERT_EQ(connection.path().path_segments_size(), static_cast<int>(segments));
    EXPECT_EQ(connection.id(), connection.path().path_segments(static_cast<int>(index)).id());
  }

  fakes::World world;
};

class OneNode : public ConnectionTrace {
 protected:
  OneNode() {
    world.tape.events.clear();
    connection.emplace(nsc.connect("ns-local").value());
  }
  ~OneNode() override {
    if (!closed_) nsc.close();
  }
  void refresh() {
    world.tape.events.clear();
    // A fifth of an hour, the life of a token.
    world.scheduler.run_for(12min + 1s);
    std::erase_if(world.tape.events, [](const auto& event) { return event.method == mesh::Endpoints::kRegister; });
  }
  void close() {
    world.tape.events.clear();
    nsc.close();
    closed_ = true;
  }

  fakes::ManagerProcess manager{world, "nsmgr", "tcp://10.0.0.1:5001", ""};
  fakes::ForwarderProcess fwd{world, "fwd", manager, "10.0.0.1"};
  fakes::EndpointProcess nse{world, "nse", manager, "ns-local", "IP"};
  fakes::ClientProcess nsc{world, "nsc", manager};
  std::optional<Connection> connection;
  bool closed_ = false;
};

TEST_F(OneNode, ARequestMakesTheRecordedCalls) {
  EXPECT_THAT(calls(),
              ElementsAre("nsmgr Monitor /id",                                  //
                          "nsmgr Request",                                      //
                          "fwd Request",                                        //
                          "nsmgr FindNS ns-local", "nsmgr FindNSE [ns-local]",  // the forwarder's
                          "nse Request", "nse Monitor fwd/id", "fwd Monitor nsmgr/id", "nsmgr Monitor nsc/id"));
  EXPECT_THAT(course(), ElementsAre(">>> nsmgr", ">>> fwd", ">>> nse", "<<< nse", "<<< fwd", "<<< nsmgr"));
}

TEST_F(OneNode, EachHopAddsItsSegmentAndLeavesTheCallersOnTheWayBack) {
  expect_place(asked("nsmgr").connection(), 0, 1);
  expect_place(asked("fwd").connection(), 1, 2);
  expect_place(asked("nse").connection(), 2, 3);
  expect_place(answered("nse"), 2, 4);
  expect_place(answered("fwd"), 1, 4);
  expect_place(answered("nsmgr"), 0, 4);
  expect_place(*connection, 0, 4);
  EXPECT_THAT(names(*connection), ElementsAre("nsc", "nsmgr", "fwd", "nse"));
  EXPECT_EQ(connection->id(), "nsc-0");
  for (int hop = 1; hop < 4; ++hop) EXPECT_THAT(ids(*connection)[static_cast<std::size_t>(hop)], SizeIs(36));
}

TEST_F(OneNode, TokensAndTheirTimesAreWhereTheRecordHasThem) {
  EXPECT_THAT(signers(asked("nsmgr").connection()), ElementsAre(""));
  EXPECT_THAT(signers(asked("fwd").connection()), ElementsAre("nsc", "nsmgr"));
  EXPECT_THAT(signers(asked("nse").connection()), ElementsAre("nsc", "nsmgr", "fwd"));
  EXPECT_THAT(signers(*connection), ElementsAre("nsc", "nsmgr", "fwd", "nse"));
  for (const auto& call : world.tape.events) {
    if (call.kind != Kind::call) continue;
    EXPECT_EQ(call.metadata.count("nsm-client-token"), 1U) << line(call);
    EXPECT_EQ(call.metadata.count("nsm-client-token-expires"), 1U) << line(call);
  }
}

TEST_F(OneNode, TheForwarderNamesTheEndpointAndItsPayload) {
  EXPECT_EQ(asked("nsmgr").connection().network_service_endpoint_name(), "");
  EXPECT_EQ(asked("fwd").connection().network_service_endpoint_name(), "");
  EXPECT_EQ(asked("fwd").connection().payload(), "");
  EXPECT_EQ(asked("nse").connection().network_service_endpoint_name(), "nse");
  EXPECT_EQ(asked("nse").connection().payload(), "IP");
  EXPECT_EQ(connection->network_service_endpoint_name(), "nse");
  EXPECT_EQ(connection->payload(), "IP");
}

TEST_F(OneNode, MechanismsAreBetweenNeighbours) {
  for (const char* peer : {"nsmgr", "fwd"}) {
    const auto request = asked(peer);
    EXPECT_FALSE(request.connection().has_mechanism());
    ASSERT_EQ(request.mechanism_preferences_size(), 1);
    EXPECT_EQ(request.mechanism_preferences(0).cls(), "LOCAL");
    EXPECT_EQ(request.mechanism_preferences(0).type(), "KERNEL");
    EXPECT_EQ(request.mechanism_preferences(0).parameters().at("inodeURL"), nsc.network_namespace.url());
    EXPECT_EQ(request.mechanism_preferences(0).parameters().at("name").substr(0, 9), "ns-local-");
  }
  const auto to_endpoint = asked("nse");
  EXPECT_FALSE(to_endpoint.connection().has_mechanism());
  ASSERT_EQ(to_endpoint.mechanism_preferences_size(), 1);
  EXPECT_EQ(to_endpoint.mechanism_preferences(0).cls(), "LOCAL");
  EXPECT_EQ(to_endpoint.mechanism_preferences(0).type(), "KERNEL");
  EXPECT_THAT(to_endpoint.mechanism_preferences(0).parameters(), IsEmpty());

  EXPECT_EQ(answered("nse").mechanism().parameters().at("inodeURL"), nse.network_namespace.url());
  for (const char* peer : {"fwd", "nsmgr"}) {
    EXPECT_EQ(answered(peer).mechanism().cls(), "LOCAL");
    EXPECT_EQ(parameters(answered(peer).mechanism()), parameters(asked(peer).mechanism_preferences(0)));
  }
}

TEST_F(OneNode, TheManagerAddsItsNodeAndNothingElseToTheLabels) {
  EXPECT_THAT(mesh::ordered(asked("nsmgr").connection().labels()), IsEmpty());
  EXPECT_THAT(mesh::ordered(asked("fwd").connection().labels()), ElementsAre(std::pair("nodeName", "node-of-nsmgr")));
}

TEST_F(OneNode, MonitorsTellTheConnectionAsEachHopKnowsIt) {
  // The first message of each stream; nsmgr's first is the answer to the client's question for an earlier life.
  const auto told = [&](const std::string& peer) {
    const auto event = parsed<mesh::ConnectionEvent>(this->event(Kind::message, peer, mesh::method::kMonitor).body);
    EXPECT_EQ(event.type(), connection::INITIAL_STATE_TRANSFER);
    return event;
  };
  EXPECT_THAT(told("nsmgr").connections(), IsEmpty());
  for (const auto& [peer, index] : {std::pair("nse", 3), std::pair("fwd", 2)}) {
    const auto event = told(peer);
    ASSERT_THAT(event.connections(), SizeIs(1));
    const auto& [id, known] = *event.connections().begin();
    EXPECT_EQ(id, ids(*connection)[static_cast<std::size_t>(index)]);
    expect_place(known, static_cast<std::uint32_t>(index), 4);
  }
}

TEST_F(OneNode, TheWireIsPluggedBetweenBothNamespaces) {
  ASSERT_THAT(fwd.plane.wires, SizeIs(1));
  const auto& wire = fwd.plane.wires.begin()->second;
  EXPECT_EQ(wire.id, ids(*connection)[2]);
  EXPECT_EQ(std::get<KernelEnd>(wire.client).netns.key(), nsc.network_namespace.key());
  EXPECT_EQ(std::get<KernelEnd>(wire.endpoint).netns.key(), nse.network_namespace.key());
  EXPECT_EQ(wire.context.ip_context().src_ip_addrs(0), "172.16.0.1/32");
  EXPECT_EQ(wire.context.ip_context().dst_ip_addrs(0), "172.16.0.0/32");
}

TEST_F(OneNode, ARefreshMakesTheRecordedCalls) {
  refresh();
  EXPECT_THAT(calls(),
              ElementsAre("nsmgr Request", "fwd Request",
                          "nsmgr FindNSE nse",  // by its name only
                          "nse Request", "nse Monitor fwd/id", "fwd Monitor nsmgr/id", "nsmgr Monitor nsc/id"));
}

TEST_F(OneNode, ARefreshKeepsEveryIdAndSendsTheWholePath) {
  const auto before = ids(*connection);
  refresh();
  expect_place(asked("nsmgr").connection(), 0, 4);
  expect_place(asked("fwd").connection(), 1, 4);
  expect_place(asked("nse").connection(), 2, 4);
  expect_place(answered("nsmgr"), 0, 4);
  for (const char* peer : {"nsmgr", "fwd", "nse"}) {
    EXPECT_EQ(ids(asked(peer).connection()), before) << peer;
    EXPECT_EQ(asked(peer).connection().network_service_endpoint_name(), "nse");
  }
  EXPECT_EQ(ids(answered("nsmgr")), before);
  EXPECT_THAT(fwd.plane.wires, SizeIs(1));
}

TEST_F(OneNode, ARefreshRenewsTheTokensHopByHop) {
  const auto first = *connection;
  refresh();
  const auto is_new = [&](const Connection& now, int segment) {
    return mesh::to_wall(now.path().path_segments(segment).expires()) >
           mesh::to_wall(first.path().path_segments(segment).expires());
  };
  const auto fresh = [&](const Connection& now) {
    std::vector<bool> all;
    for (int segment = 0; segment < now.path().path_segments_size(); ++segment) all.push_back(is_new(now, segment));
    return all;
  };
  EXPECT_THAT(fresh(asked("fwd").connection()), ElementsAre(true, true, false, false));
  EXPECT_THAT(fresh(asked("nse").connection()), ElementsAre(true, true, true, false));
  EXPECT_THAT(fresh(answered("nsmgr")), ElementsAre(true, true, true, true));
}

TEST_F(OneNode, ARefreshAsksForTheSameMechanism) {
  const Mechanism before = connection->mechanism();
  refresh();
  const auto request = asked("nsmgr");
  EXPECT_EQ(request.connection().mechanism().parameters().at("name"), before.parameters().at("name"));
  ASSERT_EQ(request.mechanism_preferences_size(), 1);
  EXPECT_EQ(request.mechanism_preferences(0).type(), "KERNEL");
  EXPECT_EQ(answered("nsmgr").mechanism().parameters().at("name"), before.parameters().at("name"));
}

TEST_F(OneNode, EachHopLeavesTheOldMonitorBeforeItAsksTheNextHop) {
  refresh();
  EXPECT_LT(position(Kind::end, "nsmgr/MonitorConnections"), position(Kind::call, "nsmgr Request"));
  EXPECT_LT(position(Kind::end, "fwd/MonitorConnections"), position(Kind::call, "fwd Request"));
  EXPECT_LT(position(Kind::end, "nse/MonitorConnections"), position(Kind::call, "nse Request"));
}

TEST_F(OneNode, ACloseMakesTheRecordedCalls) {
  close();
  EXPECT_THAT(calls(), ElementsAre("nsmgr Close", "fwd Close", "nsmgr FindNSE nse", "nse Close"));
  EXPECT_THAT(course(), ElementsAre(">>> nsmgr", ">>> fwd", ">>> nse", "<<< nse", "<<< fwd", "<<< nsmgr"));
  EXPECT_LT(position(Kind::end, "nsmgr/MonitorConnections"), position(Kind::call, "nsmgr Close"));
  EXPECT_LT(position(Kind::end, "fwd/MonitorConnections"), position(Kind::call, "fwd Close"));
  EXPECT_LT(position(Kind::end, "nse/MonitorConnections"), position(Kind::call, "nse Close"));
}

TEST_F(OneNode, ACloseBringsThePathAndLeavesNothing) {
  const auto before = ids(*connection);
  close();
  expect_place(closed("nsmgr"), 0, 4);
  expect_place(closed("fwd"), 1, 4);
  expect_place(closed("nse"), 2, 4);
  EXPECT_EQ(ids(closed("nse")), before);
  EXPECT_EQ(closed("nsmgr").network_service_endpoint_name(), "nse");
  EXPECT_EQ(closed("nsmgr").mechanism().type(), "KERNEL");
  EXPECT_EQ(event(Kind::answer, "nsmgr", mesh::method::kClose).body, "");  // Empty
  EXPECT_EQ(manager.manager.connections().size(), 0U);
  EXPECT_EQ(fwd.forwarder.connections().size(), 0U);
  EXPECT_EQ(nse.endpoint.connections().size(), 0U);
  EXPECT_THAT(fwd.plane.wires, IsEmpty());
}

TEST_F(OneNode, ClosingAnUnknownIdSucceedsAndGoesNoFurther) {
  world.tape.events.clear();
  auto channel = nsc.transport->channel(manager.socket_url).value();
  Connection unknown;
  unknown.set_id("never-seen");
  unknown.mutable_path()->add_path_segments()->set_name("nsc");
  unknown.mutable_path()->mutable_path_segments(0)->set_id("never-seen");
  const auto reply = world.scheduler.run(channel->unary(mesh::method::kClose, unknown.SerializeAsString(), {}), 10s);
  ASSERT_TRUE(reply && *reply);
  EXPECT_EQ((*reply)->body, "");
  EXPECT_THAT(calls(), ElementsAre("nsmgr Close"));
}

TEST_F(OneNode, AClientThatRestartsTakesItsConnectionOver) {
  world.tape.events.clear();
  fakes::ClientProcess again(world, "nsc", manager);
  const auto resumed = again.connect("ns-local");
  ASSERT_TRUE(resumed);
  EXPECT_EQ(ids(*resumed), ids(*connection));
  EXPECT_EQ(resumed->context().ip_context().src_ip_addrs(0), connection->context().ip_context().src_ip_addrs(0));
  EXPECT_EQ(calls("nsmgr").front(), "nsmgr Monitor /id");
  again.close();
}

class TwoNodes : public ConnectionTrace {
 protected:
  TwoNodes() {
    world.tape.events.clear();
    connection.emplace(nsc.connect("ns-remote").value());
  }
  ~TwoNodes() override {
    if (!closed_) nsc.close();
  }
  void refresh() {
    world.tape.events.clear();
    world.scheduler.run_for(12min + 1s);
    std::erase_if(world.tape.events, [](const auto& event) { return event.method == mesh::Endpoints::kRegister; });
  }
  void close() {
    world.tape.events.clear();
    nsc.close();
    closed_ = true;
  }

  fakes::RegistryProcess registry{world};
  fakes::ManagerProcess manager_a{world, "nsmgr-a", "tcp://10.0.0.1:5001", fakes::kRegistryUrl};
  fakes::ManagerProcess manager_b{world, "nsmgr-b", "tcp://10.0.0.2:5001", fakes::kRegistryUrl};
  fakes::ForwarderProcess fwd_a{world, "fwd-a", manager_a, "10.0.0.1"};
  fakes::ForwarderProcess fwd_b{world, "fwd-b", manager_b, "10.0.0.2"};
  fakes::EndpointProcess nse{world, "nse", manager_b, "ns-remote", "ETHERNET"};
  fakes::ClientProcess nsc{world, "nsc", manager_a};
  std::optional<Connection> connection;
  bool closed_ = false;
};

TEST_F(TwoNodes, ARequestMakesTheRecordedCallsAtEveryPeer) {
  EXPECT_THAT(course(), ElementsAre(">>> nsmgr-a", ">>> fwd-a", ">>> nsmgr-b", ">>> fwd-b", ">>> nse",  //
                                    "<<< nse", "<<< fwd-b", "<<< nsmgr-b", "<<< fwd-a", "<<< nsmgr-a"));
  EXPECT_THAT(calls("nsmgr-a"),
              ElementsAre("nsmgr-a Monitor /id", "nsmgr-a Request",  //
                          "nsmgr-a FindNS ns-remote", "nsmgr-a FindNSE [ns-remote]", "nsmgr-a Monitor nsc/id"));
  EXPECT_THAT(calls("fwd-a"), ElementsAre("fwd-a Request", "fwd-a Monitor nsmgr-a/id"));
  EXPECT_THAT(calls("nsmgr-b"), ElementsAre("nsmgr-b Request", "nsmgr-b FindNSE nse", "nsmgr-b Monitor fwd-a/id"));
  EXPECT_THAT(calls("fwd-b"), ElementsAre("fwd-b Request", "fwd-b Monitor nsmgr-b/id"));
  EXPECT_THAT(calls("nse"), ElementsAre("nse Request", "nse Monitor fwd-b/id"));
}

TEST_F(TwoNodes, ARequestAsksTheRegistryInTheRecordedOrder) {
  auto asked_registry = calls("registry");
  ASSERT_GE(asked_registry.size(), 7U);
  const std::vector<std::string> watching(asked_registry.begin() + 7, asked_registry.end());
  asked_registry.resize(7);
  EXPECT_THAT(asked_registry,
              ElementsAre("registry FindNS ns-remote",                             // manager a
                          "registry FindNSE [forwarder] url=tcp://10.0.0.1:5001",  // its own forwarders
                          "registry FindNS ns-remote",                             // forwarder a
                          "registry FindNSE [ns-remote]",
                          "registry FindNS ns-remote ETHERNET",  // manager b, which knows the payload
                          "registry FindNSE [forwarder] url=tcp://10.0.0.2:5001",
                          "registry FindNSE nse"));  // forwarder b
  // Each manager then watches the service, and judges the endpoint by what it is told first.
  EXPECT_THAT(watching, UnorderedElementsAre("registry FindNS ns-remote watch", "registry FindNSE nse",
                                             "registry FindNS ns-remote watch", "registry FindNSE nse"));
}

TEST_F(TwoNodes, SixSegmentsEachHopWithItsOwn) {
  expect_place(asked("nsmgr-a").connection(), 0, 1);
  expect_place(asked("fwd-a").connection(), 1, 2);
  expect_place(asked("nsmgr-b").connection(), 2, 3);
  expect_place(asked("fwd-b").connection(), 3, 4);
  expect_place(asked("nse").connection(), 4, 5);
  expect_place(answered("nse"), 4, 6);
  expect_place(answered("fwd-b"), 3, 6);
  expect_place(answered("nsmgr-b"), 2, 6);
  expect_place(answered("fwd-a"), 1, 6);
  expect_place(answered("nsmgr-a"), 0, 6);
  EXPECT_THAT(names(*connection), ElementsAre("nsc", "nsmgr-a", "fwd-a", "nsmgr-b", "fwd-b", "nse"));
  EXPECT_THAT(signers(*connection), ElementsAre("nsc", "nsmgr-a", "fwd-a", "nsmgr-b", "fwd-b", "nse"));
}

TEST_F(TwoNodes, TheFirstForwarderNamesTheEndpointAndItsPayload) {
  EXPECT_EQ(asked("fwd-a").connection().network_service_endpoint_name(), "");
  for (const char* peer : {"nsmgr-b", "fwd-b", "nse"}) {
    EXPECT_EQ(asked(peer).connection().network_service_endpoint_name(), "nse") << peer;
    EXPECT_EQ(asked(peer).connection().payload(), "ETHERNET") << peer;
  }
}

TEST_F(TwoNodes, ForwardersAgreeOnATunnel) {
  for (const char* peer : {"nsmgr-b", "fwd-b"}) {
    const auto request = asked(peer);
    EXPECT_FALSE(request.connection().has_mechanism());
    ASSERT_EQ(request.mechanism_preferences_size(), 1);
    EXPECT_EQ(request.mechanism_preferences(0).cls(), "REMOTE");
    EXPECT_EQ(request.mechanism_preferences(0).type(), "VXLAN");
    EXPECT_THAT(mesh::ordered(request.mechanism_preferences(0).parameters()),
                ElementsAre(std::pair("MTU", "1446"), std::pair("src_ip", "10.0.0.1"), std::pair("src_port", "4789")));
  }
  const auto tunnel = answered("fwd-b").mechanism();
  EXPECT_EQ(tunnel.parameters().at("src_ip"), "10.0.0.1");
  EXPECT_EQ(tunnel.parameters().at("dst_ip"), "10.0.0.2");
  EXPECT_EQ(tunnel.parameters().at("dst_port"), "4789");
  EXPECT_EQ(std::stoul(tunnel.parameters().at("vni")) % 2, 0U);  // 10.0.0.1 is the lower address
  EXPECT_EQ(parameters(answered("nsmgr-b").mechanism()), parameters(tunnel));
  EXPECT_EQ(answered("fwd-a").mechanism().type(), "KERNEL");
  EXPECT_EQ(asked("nse").mechanism_preferences(0).cls(), "LOCAL");
}

TEST_F(TwoNodes, BothForwardersPlugTheSameTunnel) {
  ASSERT_THAT(fwd_a.plane.wires, SizeIs(1));
  ASSERT_THAT(fwd_b.plane.wires, SizeIs(1));
  const auto& near = fwd_a.plane.wires.begin()->second;
  const auto& far = fwd_b.plane.wires.begin()->second;
  EXPECT_EQ(std::get<KernelEnd>(near.client).netns.key(), nsc.network_namespace.key());
  EXPECT_EQ(std::get<KernelEnd>(far.endpoint).netns.key(), nse.network_namespace.key());
  const auto& out = std::get<VxlanEnd>(near.endpoint);
  const auto& in = std::get<VxlanEnd>(far.client);
  EXPECT_EQ(out.vni, in.vni);
  EXPECT_EQ(out.local, in.remote);
  EXPECT_EQ(out.remote, in.local);
  EXPECT_EQ(out.local.to_string(), "10.0.0.1");
  EXPECT_EQ(connection->context().mtu(), 1446U);
}

TEST_F(TwoNodes, ARefreshMakesTheRecordedCallsAndKeepsEveryId) {
  const auto before = ids(*connection);
  const auto tunnel = parameters(answered("fwd-b").mechanism());
  refresh();
  EXPECT_THAT(course(), ElementsAre(">>> nsmgr-a", ">>> fwd-a", ">>> nsmgr-b", ">>> fwd-b", ">>> nse",  //
                                    "<<< nse", "<<< fwd-b", "<<< nsmgr-b", "<<< fwd-a", "<<< nsmgr-a"));
  EXPECT_THAT(calls("nsmgr-a"), ElementsAre("nsmgr-a Request", "nsmgr-a FindNSE nse", "nsmgr-a Monitor nsc/id"));
  EXPECT_THAT(calls("nsmgr-b"), ElementsAre("nsmgr-b Request", "nsmgr-b FindNSE nse", "nsmgr-b Monitor fwd-a/id"));
  // The managers ask for the forwarder they remember, by its name.
  EXPECT_THAT(
      calls("registry"),
      ElementsAre("registry FindNS ns-remote ETHERNET", "registry FindNSE fwd-a [forwarder] url=tcp://10.0.0.1:5001",
                  "registry FindNSE nse", "registry FindNS ns-remote ETHERNET",
                  "registry FindNSE fwd-b [forwarder] url=tcp://10.0.0.2:5001", "registry FindNSE nse"));
  for (const char* peer : {"nsmgr-a", "fwd-a", "nsmgr-b", "fwd-b", "nse"}) {
    EXPECT_EQ(ids(asked(peer).connection()), before) << peer;
  }
  EXPECT_EQ(ids(answered("nsmgr-a")), before);
  EXPECT_EQ(asked("nsmgr-b").connection().mechanism().type(), "VXLAN");
  EXPECT_EQ(parameters(answered("fwd-b").mechanism()), tunnel);
}

TEST_F(TwoNodes, ACloseMakesTheRecordedCalls) {
  close();
  EXPECT_THAT(course(), ElementsAre(">>> nsmgr-a", ">>> fwd-a", ">>> nsmgr-b", ">>> fwd-b", ">>> nse",  //
                                    "<<< nse", "<<< fwd-b", "<<< nsmgr-b", "<<< fwd-a", "<<< nsmgr-a"));
  EXPECT_THAT(calls("registry"),
              ElementsAre("registry FindNSE fwd-a [forwarder] url=tcp://10.0.0.1:5001", "registry FindNSE nse",
                          "registry FindNSE fwd-b [forwarder] url=tcp://10.0.0.2:5001", "registry FindNSE nse"));
  EXPECT_THAT(calls("nsmgr-a"), ElementsAre("nsmgr-a Close", "nsmgr-a FindNSE nse"));
  EXPECT_THAT(calls("nsmgr-b"), ElementsAre("nsmgr-b Close", "nsmgr-b FindNSE nse"));
  expect_place(closed("nsmgr-a"), 0, 6);
  expect_place(closed("nsmgr-b"), 2, 6);
  expect_place(closed("nse"), 4, 6);
  EXPECT_EQ(event(Kind::answer, "nsmgr-a", mesh::method::kClose).body, "");
  EXPECT_THAT(fwd_a.plane.wires, IsEmpty());
  EXPECT_THAT(fwd_b.plane.wires, IsEmpty());
  EXPECT_EQ(fwd_b.forwarder.vnis(), 0U);
}

TEST_F(TwoNodes, OneWatchOfAServiceServesAllItsConnections) {
  world.tape.events.clear();
  fakes::ClientProcess second(world, "nsc-2", manager_a);
  ASSERT_TRUE(second.connect("ns-remote"));
  for (const auto& call : calls("registry")) EXPECT_NE(call, "registry FindNS ns-remote watch");
  second.close();
}

}  // namespace
}  // namespace forwarder
