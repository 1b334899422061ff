// SPDX-License-Identifier: Apache-2.0
// Registrations as NSM's own components make them, replayed against the chains of ours: which calls a manager makes
// upstream, in which order, and what is in them. The figures are those of two recorded runs, one node with a manager
// that has no registry behind it and two nodes with a registry.
#include <gmock/gmock.h>

#include "fakes/loopback_network.h"
#include "fakes/manual_scheduler.h"
#include "mesh/chains/manager_registry.h"
#include "mesh/chains/registry.h"
#include "mesh/elements/registry_enrolment/registry_enrolment.h"
#include "mesh/elements/registry_remote/registry_remote.h"
#include "mesh/elements/registry_service/registry_service.h"
#include "registry/memory_registry.h"

namespace registry {
namespace {

using base::Code;
using mesh::Endpoints;
using mesh::NetworkService;
using mesh::NetworkServiceEndpoint;
using mesh::Services;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAreArray;
using namespace std::chrono_literals;

constexpr const char* kRegistryUrl = "tcp://127.0.0.1:46009";
constexpr const char* kPublicUrl = "tcp://127.0.0.1:39397";
constexpr const char* kManagerSocket = "unix:///tmp/mesh/nsmgr_0.sock";

// What an endpoint calls to be registered, in this order.
const std::vector<std::string> kRegistration{"NetworkServiceRegistry/Register", "NetworkServiceRegistry/Find",
                                             "NetworkServiceEndpointRegistry/Register",
                                             "NetworkServiceEndpointRegistry/Find"};

// A process: its tokens, and its way to others.
struct Process {
  Process(fakes::ManualScheduler& scheduler, fakes::LoopbackNetwork& network, const std::string& id)
      : tokens(scheduler, id, 1h), credentials(tokens), transport(network.process(&credentials)) {}
  mesh::PlainTokens tokens;
  mesh::TokenCredentials credentials;
  std::unique_ptr<rpc::Transport> transport;
};

struct RegistryProcess : Process {
  RegistryProcess(fakes::ManualScheduler& scheduler, fakes::LoopbackNetwork& network)
      : Process(scheduler, network, "spiffe://test.com/registry"),
        services(scheduler),
        endpoints(scheduler),
        chain({scheduler, tokens, services, endpoints}) {
    mesh::serve_registry(methods, scheduler, chain.services());
    mesh::serve_registry(methods, scheduler, chain.endpoints());
    listener = std::move(transport->listen(kRegistryUrl, methods).value());
  }
  MemoryRegistry<Services> services;
  MemoryRegistry<Endpoints> endpoints;
  mesh::RegistryChain chain;
  rpc::Services methods;
  std::unique_ptr<rpc::Listener> listener;
};

struct ManagerProcess : Process {
  // upstream: a registry's URL, or empty for a registry of its own.
  ManagerProcess(fakes::ManualScheduler& scheduler, fakes::LoopbackNetwork& network, const std::string& upstream,
                 const mesh::Labels& labels = {})
      : Process(scheduler, network, "spiffe://test.com/nsmgr"),
        own_services(scheduler),
        own_endpoints(scheduler),
        remote_services(*transport, upstream),
        remote_endpoints(*transport, upstream),
        facade({scheduler, tokens, kPublicUrl, labels,
                upstream.empty() ? static_cast<mesh::ServiceRegistry&>(own_services) : remote_services,
                upstream.empty() ? static_cast<mesh::EndpointRegistry&>(own_endpoints) : remote_endpoints}) {
    mesh::serve_registry(methods, scheduler, facade.services());
    mesh::serve_registry(methods, scheduler, facade.endpoints());
    listener = std::move(transport->listen(kManagerSocket, methods).value());
  }
  MemoryRegistry<Services> own_services;
  MemoryRegistry<Endpoints> own_endpoints;
  mesh::RegistryRemote<Services> remote_services;
  mesh::RegistryRemote<Endpoints> remote_endpoints;
  mesh::ManagerRegistry facade;
  rpc::Services methods;
  std::unique_ptr<rpc::Listener> listener;
};

struct EndpointProcess : Process {
  EndpointProcess(fakes::ManualScheduler& scheduler, fakes::LoopbackNetwork& network, mesh::EnrolmentPlan plan)
      : Process(scheduler, network, "spiffe://test.com/nse"),
        services(*transport, kManagerSocket),
        endpoints(*transport, kManagerSocket),
        enrolment(scheduler, services, endpoints, std::move(plan)) {}
  mesh::RegistryRemote<Services> services;
  mesh::RegistryRemote<Endpoints> endpoints;
  mesh::RegistryEnrolment enrolment;
};

class WireTrace : public ::testing::Test {
 protected:
  mesh::EnrolmentPlan plan(const std::string& service) {
    mesh::EnrolmentPlan made;
    NetworkService offered;
    offered.set_name(service);
    made.services.push_back(offered);
    made.endpoint.set_name("final-endpoint");
    made.endpoint.add_network_service_names(service);
    made.endpoint.set_url(socket.url());
    made.socket = socket;
    return made;
  }

  // What arrived at one process, in order: "NetworkServiceRegistry/Register".
  std::vector<std::string> calls(const std::string& url) {
    std::vector<std::string> all;
    for (const auto& call : network.seen()) {
      if (call.url == url) all.push_back(call.method.substr(call.method.rfind('.') + 1));
    }
    return all;
  }
  const fakes::LoopbackNetwork::Seen& seen(const std::string& url, const char* method, std::size_t nth = 0) {
    for (const auto& call : network.seen()) {
      if (call.url == url && call.method == method && nth-- == 0) return call;
    }
    ADD_FAILURE() << "no such call: " << url << " " << method;
    std::abort();
  }
  template <typename Message>
  static Message body(const fakes::LoopbackNetwork::Seen& call) {
    Message message;
    EXPECT_TRUE(message.ParseFromString(call.body));
    return message;
  }
  static mesh::RegistrationPath path(const fakes::LoopbackNetwork::Seen& call) {
    const auto text = rpc::single_value(call.metadata, "path");
    EXPECT_TRUE(text.has_value());
    return mesh::parse_path(text.value_or("")).value();
  }
  template <typename Task>
  auto run(Task task) {
    return scheduler.run(std::move(task), 10s).value();
  }
  std::vector<mesh::Found<Endpoints>> find(mesh::EndpointRegistry& registry, const std::string& name) {
    mesh::RegistryCall call(scheduler, scheduler.now() + 5s, base::StopToken());
    Endpoints::Query query;
    query.mutable_network_service_endpoint()->set_name(name);
    return std::move(run(mesh::find_all<Endpoints>(registry, call, query)).value());
  }
  void end(mesh::RegistryEnrolment& enrolment) { scheduler.run(ended(enrolment)); }
  static base::Task<bool> ended(mesh::RegistryEnrolment& enrolment) {
    co_await enrolment.finish();
    co_return true;
  }

  fakes::ManualScheduler scheduler;
  fakes::LoopbackNetwork network{scheduler};
  rpc::Descriptor socket = rpc::Descriptor::simulated({65024, 10135880});
};

TEST_F(WireTrace, OneNodeWithoutARegistry) {
  ManagerProcess manager(scheduler, network, "");
  EndpointProcess nse(scheduler, network, plan("ns-local"));
  ASSERT_TRUE(run(nse.enrolment.start()));
  scheduler.run_for(1s);

  EXPECT_THAT(calls(kManagerSocket), ElementsAreArray(kRegistration));
  EXPECT_EQ(rpc::single_value(seen(kManagerSocket, Endpoints::kRegister).metadata, "path"),
            R"({"Index":0,"PathSegments":null})");
  EXPECT_EQ(rpc::single_value(seen(kManagerSocket, Endpoints::kFind).metadata, "path"), std::nullopt);
  EXPECT_TRUE(body<Endpoints::Query>(seen(kManagerSocket, Endpoints::kFind)).watch());

  const auto& registered = nse.enrolment.registered();
  EXPECT_EQ(registered.url(), "inode://65024/10135880");
  EXPECT_THAT(registered.path_ids(), ElementsAre("spiffe://test.com/nse", "spiffe://test.com/nsmgr"));
  EXPECT_FALSE(registered.has_initial_registration_time());  // a manager alone dates nothing
  EXPECT_EQ(mesh::to_wall(registered.expiration_time()), fakes::ManualScheduler::kStart + 1min);

  // A forwarder of the node finds it with its socket.
  Process forwarder(scheduler, network, "spiffe://test.com/fwd");
  mesh::RegistryRemote<Endpoints> seen_by_forwarder(*forwarder.transport, kManagerSocket);
  const auto found = find(seen_by_forwarder, "final-endpoint");
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].response.network_service_endpoint().url(), "inode://65024/10135880");
  ASSERT_TRUE(found[0].socket);
  EXPECT_EQ(found[0].socket->key(), socket.key());
  // So does the manager itself.
  const auto own = find(manager.facade.endpoints(), "final-endpoint");
  ASSERT_EQ(own.size(), 1U);
  EXPECT_TRUE(own[0].socket);
  end(nse.enrolment);
}

TEST_F(WireTrace, TwoNodesWithARegistry) {
  RegistryProcess registry(scheduler, network);
  ManagerProcess manager(scheduler, network, kRegistryUrl, {{"nodeName", "node-b"}});
  auto wanted = plan("ns-remote");
  (*wanted.endpoint.mutable_network_service_labels())["ns-remote"].mutable_labels()->insert({"app", "nse"});
  EndpointProcess nse(scheduler, network, std::move(wanted));
  ASSERT_TRUE(run(nse.enrolment.start()));
  scheduler.run_for(1s);

  EXPECT_THAT(calls(kManagerSocket), ElementsAreArray(kRegistration));
  // The service's watch and the endpoint's registration are under way together, so upstream they may change places.
  EXPECT_THAT(calls(kRegistryUrl), UnorderedElementsAreArray(kRegistration));

  const auto& upstream = seen(kRegistryUrl, Endpoints::kRegister);
  EXPECT_EQ(path(upstream).index, 1U);
  ASSERT_EQ(path(upstream).tokens.size(), 2U);
  EXPECT_EQ(mesh::token_subject(path(upstream).tokens[0]), "spiffe://test.com/nse");
  EXPECT_EQ(mesh::token_subject(path(upstream).tokens[1]), "spiffe://test.com/nsmgr");
  const auto sent = body<NetworkServiceEndpoint>(upstream);
  EXPECT_EQ(sent.url(), kPublicUrl);
  EXPECT_EQ(mesh::to_wall(sent.expiration_time()), fakes::ManualScheduler::kStart + 1min);
  EXPECT_THAT(sent.path_ids(), ElementsAre("spiffe://test.com/nse", "spiffe://test.com/nsmgr"));
  EXPECT_FALSE(sent.has_initial_registration_time());
  EXPECT_EQ(sent.network_service_labels().at("ns-remote").labels().at("nodeName"), "node-b");
  EXPECT_EQ(sent.network_service_labels().at("ns-remote").labels().at("app"), "nse");

  const auto& registered = nse.enrolment.registered();
  EXPECT_EQ(registered.url(), "inode://65024/10135880");
  EXPECT_THAT(registered.path_ids(),
              ElementsAre("spiffe://test.com/nse", "spiffe://test.com/nsmgr", "spiffe://test.com/registry"));
  EXPECT_EQ(mesh::to_wall(registered.initial_registration_time()), fakes::ManualScheduler::kStart);

  const auto stored = find(registry.chain.endpoints(), "final-endpoint");
  ASSERT_EQ(stored.size(), 1U);
  EXPECT_EQ(stored[0].response.network_service_endpoint().url(), kPublicUrl);
  EXPECT_FALSE(stored[0].socket);

  // After two thirds of its life: the same again, with the path that came back, its date kept.
  scheduler.run_until(base::TimePoint{} + 39s);
  EXPECT_EQ(network.seen().size(), 8U);
  scheduler.run_until(base::TimePoint{} + 41s);
  EXPECT_EQ(network.seen().size(), 10U);
  const auto& refresh = seen(kManagerSocket, Endpoints::kRegister, 1);
  EXPECT_EQ(path(refresh).index, 0U);
  ASSERT_EQ(path(refresh).tokens.size(), 3U);
  EXPECT_FALSE(body<NetworkServiceEndpoint>(refresh).has_expiration_time());
  EXPECT_EQ(path(seen(kRegistryUrl, Endpoints::kRegister, 1)).tokens.size(), 3U);
  EXPECT_EQ(path(seen(kRegistryUrl, Endpoints::kRegister, 1)).index, 1U);
  const auto again = nse.enrolment.registered();
  EXPECT_EQ(again.path_ids_size(), 3);
  EXPECT_EQ(mesh::to_wall(again.initial_registration_time()), fakes::ManualScheduler::kStart);
  EXPECT_EQ(mesh::to_wall(again.expiration_time()), fakes::ManualScheduler::kStart + 100s);
  end(nse.enrolment);
}

TEST_F(WireTrace, ANetworkServiceGetsItsPayloadFromTheRegistry) {
  RegistryProcess registry(scheduler, network);
  ManagerProcess manager(scheduler, network, kRegistryUrl);
  Process nse(scheduler, network, "spiffe://test.com/nse");
  mesh::RegistryRemote<Services> services(*nse.transport, kManagerSocket);
  mesh::RegistryCall call(scheduler, scheduler.now() + 5s, base::StopToken());
  NetworkService service;
  service.set_name("ns-remote");
  const auto stored = run(services.enroll(call, service)).value();
  EXPECT_EQ(stored.payload(), "IP");
  EXPECT_EQ(stored.path_ids_size(), 3);
  EXPECT_EQ(call.path.index, 0U);
  EXPECT_EQ(call.path.tokens.size(), 3U);
}

TEST_F(WireTrace, ARestartedManagerIsRegisteredWithAtOnce) {
  RegistryProcess registry(scheduler, network);
  auto manager = std::make_unique<ManagerProcess>(scheduler, network, kRegistryUrl);
  EndpointProcess nse(scheduler, network, plan("ns-remote"));
  ASSERT_TRUE(run(nse.enrolment.start()));
  scheduler.run_for(5s);

  network.break_connections();
  scheduler.run_ready();
  manager.reset();
  scheduler.run_for(3s);
  network.seen().clear();
  manager = std::make_unique<ManagerProcess>(scheduler, network, kRegistryUrl);
  // Left over in the registry, and unknown here: not shown.
  EXPECT_TRUE(find(manager->facade.endpoints(), "final-endpoint").empty());
  scheduler.run_for(200ms);
  EXPECT_EQ(find(manager->facade.endpoints(), "final-endpoint").size(), 1U);
  end(nse.enrolment);
}

TEST_F(WireTrace, ARestartedRegistryHasEverythingAgainWithinTheRetryTime) {
  auto registry = std::make_unique<RegistryProcess>(scheduler, network);
  ManagerProcess manager(scheduler, network, kRegistryUrl);
  EndpointProcess nse(scheduler, network, plan("ns-remote"));
  ASSERT_TRUE(run(nse.enrolment.start()));
  scheduler.run_for(5s);
  network.break_connections(kRegistryUrl);
  scheduler.run_ready();
  registry.reset();
  scheduler.run_for(10s);
  registry = std::make_unique<RegistryProcess>(scheduler, network);
  scheduler.run_for(200ms);
  EXPECT_EQ(find(registry->chain.endpoints(), "final-endpoint").size(), 1U);
  EXPECT_EQ(registry->services.size(), 1U);
  end(nse.enrolment);
}

TEST_F(WireTrace, AnEndpointThatDiesIsUnregisteredHereAndUpstreamWithinItsMinute) {
  RegistryProcess registry(scheduler, network);
  ManagerProcess manager(scheduler, network, kRegistryUrl);
  EndpointProcess nse(scheduler, network, plan("ns-remote"));
  ASSERT_TRUE(run(nse.enrolment.start()));
  end(nse.enrolment);  // no refresh, no unregistration

  Process watcher(scheduler, network, "spiffe://test.com/watcher");
  mesh::RegistryRemote<Endpoints> watched(*watcher.transport, kManagerSocket);
  mesh::RegistryCall call(scheduler, base::kNoDeadline, base::StopToken());
  Endpoints::Query query;
  query.set_watch(true);
  auto stream = run(watched.find(call, query)).value();
  EXPECT_FALSE(run(stream->next()).value().value().response.deleted());
  const auto gone = scheduler.run(stream->next(), 2min).value().value().value();
  EXPECT_TRUE(gone.response.deleted());
  EXPECT_EQ(gone.response.network_service_endpoint().name(), "final-endpoint");
  EXPECT_LE(scheduler.now() - base::TimePoint{}, 61s);
  EXPECT_EQ(registry.endpoints.size(), 0U);
  EXPECT_TRUE(find(manager.facade.endpoints(), "final-endpoint").empty());
  stream.reset();  // ends the watch while those who serve it still run
  scheduler.run_for(1s);
}

TEST_F(WireTrace, AnEndpointThatUnregistersIsGoneEverywhere) {
  RegistryProcess registry(scheduler, network);
  ManagerProcess manager(scheduler, network, kRegistryUrl);
  EndpointProcess nse(scheduler, network, plan("ns-remote"));
  ASSERT_TRUE(run(nse.enrolment.start()));
  scheduler.run_for(1s);
  ASSERT_TRUE(run(nse.enrolment.withdraw()));
  EXPECT_EQ(registry.endpoints.size(), 0U);
  EXPECT_EQ(registry.services.size(), 1U);
  EXPECT_EQ(path(seen(kRegistryUrl, Endpoints::kUnregister)).index, 1U);
  EXPECT_EQ(body<NetworkServiceEndpoint>(seen(kRegistryUrl, Endpoints::kUnregister)).url(), kPublicUrl);
}

TEST_F(WireTrace, AnEndpointThatLostItsRegistrationToAnotherComesBack) {
  RegistryProcess registry(scheduler, network);
  ManagerProcess manager(scheduler, network, kRegistryUrl);
  EndpointProcess nse(scheduler, network, plan("ns-remote"));
  ASSERT_TRUE(run(nse.enrolment.start()));
  scheduler.run_for(1s);
  registry.endpoints.remove("final-endpoint");
  scheduler.run_for(200ms);
  EXPECT_EQ(registry.endpoints.size(), 1U);
  end(nse.enrolment);
}

TEST_F(WireTrace, ASocketOfAnotherConnectionCannotBeClaimed) {
  ManagerProcess manager(scheduler, network, "");
  EndpointProcess nse(scheduler, network, plan("ns-local"));
  ASSERT_TRUE(run(nse.enrolment.start()));

  Process thief(scheduler, network, "spiffe://test.com/thief");
  mesh::RegistryRemote<Endpoints> endpoints(*thief.transport, kManagerSocket);
  mesh::RegistryCall call(scheduler, scheduler.now() + 5s, base::StopToken());
  NetworkServiceEndpoint stolen;
  stolen.set_name("other-name");
  stolen.set_url(socket.url());
  const auto refused = run(endpoints.enroll(call, stolen));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("deadline"));
  EXPECT_TRUE(find(manager.facade.endpoints(), "other-name").empty());
  end(nse.enrolment);
}

TEST_F(WireTrace, ARegistryThatIsNotThereYetIsTriedEvery200Milliseconds) {
  ManagerProcess manager(scheduler, network, kRegistryUrl);
  EndpointProcess nse(scheduler, network, plan("ns-remote"));
  std::optional<base::Result<void>> started;
  base::spawn_detached([](mesh::RegistryEnrolment& e, std::optional<base::Result<void>>& out) -> base::Task<void> {
    out.emplace(co_await e.start());
  }(nse.enrolment, started));
  scheduler.run_for(1900ms);
  EXPECT_EQ(network.seen().size(), 10U);
  EXPECT_FALSE(started);
  RegistryProcess registry(scheduler, network);
  scheduler.run_for(200ms);
  ASSERT_TRUE(started);
  EXPECT_TRUE(*started);
  end(nse.enrolment);
}

}  // namespace
}  // namespace registry
