// SPDX-License-Identifier: Apache-2.0
// One node of the mesh with every policy on: the real chains of registry, manager, forwarder, endpoint and client, each
// with an SVID of its own, over a loopback network whose links say who is at their ends, as TLS would. And an intruder,
// who is a member of the same trust domain and says whatever a test tells it to.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fakes/mesh_processes.h"
#include "identity/testing.h"
#include "mesh/elements/authorize/authorization.h"
#include "mesh/elements/path_token/spiffe_tokens.h"
#include "nlohmann/json.hpp"
#include "rpc/typed.h"

namespace attacks {

using identity::testing::Authority;
using identity::testing::Leaf;
using nlohmann::ordered_json;

inline constexpr const char* kRegistry = "tcp://registry:5002";
inline constexpr const char* kManager = "unix:///manager.sock";
inline constexpr const char* kTokenKey = "nsm-client-token";
inline constexpr const char* kExpiresKey = "nsm-client-token-expires";
inline constexpr const char* kEs256 = R"({"alg":"ES256","typ":"JWT"})";

inline const Authority& domain() {
  static const Authority authority("mesh.test");
  return authority;
}

// As the clock of the tests has it.
inline Leaf good_leaf(identity::testing::KeyKind key = identity::testing::KeyKind::p256) {
  Leaf leaf;
  leaf.not_before = fakes::ManualScheduler::kStart - std::chrono::hours(24);
  leaf.not_after = fakes::ManualScheduler::kStart + std::chrono::hours(24);
  leaf.key = key;
  return leaf;
}

struct Member {
  Member(fakes::World& w, const std::string& n, const Leaf& leaf = good_leaf())
      : name(n),
        source(domain().identity(domain().issue("/" + n, leaf))),
        tokens(w.scheduler, source, std::chrono::minutes(10)),
        credentials(tokens) {
    self.id = id();
    self.certificate = identity::to_der(source.current()->svid.leaf());
    self.expires = source.current()->svid.expires();
    transport = w.network.process(&credentials, self);
    bare = w.network.process(nullptr, self);
  }
  const std::string& id() const { return source.current()->svid.id.text(); }
  EVP_PKEY& key() const { return *source.current()->svid.key; }

  // A token of this member's, as its programs make them.
  std::string token_for(const Member& audience) { return tokens.issue(audience.self).text; }

  const std::string name;
  identity::FixedSource source;
  mesh::SpiffeTokens tokens;
  mesh::TokenCredentials credentials;
  rpc::Peer self;
  std::unique_ptr<rpc::Transport> transport;  // as its programs call
  std::unique_ptr<rpc::Transport> bare;       // puts no token on calls
};

class FakeOpa final : public mesh::Opa {
 public:
  base::Task<base::Result<bool>> decide(std::string input) override {
    inputs.push_back(std::move(input));
    co_return answer;
  }
  base::Result<bool> answer = true;
  std::vector<std::string> inputs;
};

// A call said by hand.
struct Call {
  Member* from = nullptr;
  std::string url;
  std::string method;
  std::string token;
  rpc::Metadata metadata;  // beside the token
  std::vector<rpc::Descriptor> files;
};

struct Options {
  std::string rules;  // YAML; empty: none
  mesh::PolicySet monitor;
};

class GuardedMesh {
 public:
  explicit GuardedMesh(const Options& options = {}) : sets_(sets_of(options)), rules_(rules_of(options)) {
    start_registry();
    manager_chain = std::make_unique<mesh::Manager>(mesh::ManagerParts{world.scheduler,
                                                                       world.random,
                                                                       *manager.transport,
                                                                       manager.tokens,
                                                                       manager_services_,
                                                                       manager_endpoints_,
                                                                       manager.name,
                                                                       "tcp://manager:5001",
                                                                       "forwarder",
                                                                       {},
                                                                       no_prefixes(),
                                                                       authorization(manager)});
    listen(manager, kManager, manager_chain->services());

    forwarder::CrossingOptions crossing;
    crossing.underlay.address = wire::IpAddress::parse("10.0.0.1").value();
    forwarder_chain = std::make_unique<forwarder::Forwarder>(forwarder::ForwarderParts{
        world.scheduler, world.random, *forwarder_.transport, forwarder_.tokens, forwarder_services_,
        forwarder_endpoints_, plane, forwarder_.name, crossing, std::chrono::hours(1), authorization(forwarder_)});
    forwarder_socket = world.new_file(fakes::kSocketDevice);
    listen(forwarder_, forwarder_socket->url(), forwarder_chain->services());
    forwarder_enrolment_ = enroll(forwarder_services_, forwarder_endpoints_, forwarder_.name, "forwarder",
                                  *forwarder_socket, {{"p2p", "true"}}, false);

    endpoint_chain = std::make_unique<mesh::Endpoint>(mesh::EndpointParts{
        world.scheduler,
        world.random,
        *endpoint.transport,
        endpoint.tokens,
        endpoint.name,
        world.new_file(fakes::kNamespaceDevice),
        mesh::PointToPointIpam::make({{wire::Prefix::parse("172.16.0.0/24").value()}}, mesh::IpamPolicy::polite)
            .value(),
        {},
        {},
        {},
        authorization(endpoint)});
    endpoint_socket = world.new_file(fakes::kSocketDevice);
    listen(endpoint, endpoint_socket->url(), endpoint_chain->services());
    endpoint_enrolment_ =
        enroll(endpoint_services_, endpoint_endpoints_, endpoint.name, "shop", *endpoint_socket, {}, true);
    client_chain = std::make_unique<mesh::Client>(mesh::ClientParts{world.scheduler,
                                                                    world.random,
                                                                    *client.transport,
                                                                    liveness_,
                                                                    client.name,
                                                                    kManager,
                                                                    world.new_file(fakes::kNamespaceDevice),
                                                                    {},
                                                                    {},
                                                                    {},
                                                                    {},
                                                                    authorization(client)});
  }

  ~GuardedMesh() {
    world.finish(client_chain->finish());
    world.finish(endpoint_enrolment_->finish());
    world.finish(forwarder_enrolment_->finish());
    for (const auto& listener : listeners_) world.finish(listener->finish());
    listeners_.clear();
    world.finish(endpoint_chain->finish());
    world.finish(forwarder_chain->finish());
    world.finish(manager_chain->finish());
    world.finish(registry_chain->finish());
  }

  // The victim's connection: the client's own, all the way to the endpoint.
  mesh::Connection connect() {
    mesh::NetworkServiceUrl url;
    url.mechanism = std::string(mesh::kKernel);
    url.service = "shop";
    auto connection = world.scheduler.run(client_chain->connect(url, 0, std::chrono::seconds(15), {}));
    world.scheduler.run_ready();
    return connection->value();
  }
  // Whether that connection is still everywhere where it was.
  bool connected() const {
    return manager_chain->connections().connections().size() == 1 &&
           forwarder_chain->connections().connections().size() == 1 &&
           endpoint_chain->connections().connections().size() == 1 && plane.wires.size() == 1;
  }

  template <typename Answer, typename Message>
  base::Result<Answer> send(const Call& call, const Message& message) {
    auto channel = call.from->bare->channel(call.url);
    rpc::CallOptions options;
    options.deadline = world.scheduler.now() + std::chrono::seconds(15);
    options.metadata = call.metadata;
    options.descriptors = call.files;
    if (!call.token.empty()) {
      options.metadata.emplace(kTokenKey, call.token);
      options.metadata.emplace(kExpiresKey, mesh::format_time(world.scheduler.wall_now() + std::chrono::minutes(10)));
    }
    auto reply = world.scheduler.run(rpc::unary<Answer>(*channel, call.method, message, std::move(options)));
    world.scheduler.run_ready();
    if (!reply) return base::fail(base::Code::internal, "the call never ended");
    if (!*reply) return std::unexpected(reply->error());
    return std::move((*reply)->message);
  }

  // A second life of the registry, over the same store.
  void restart_registry() {
    world.finish(listeners_.front()->finish());
    listeners_.erase(listeners_.begin());
    world.finish(registry_chain->finish());
    start_registry();
  }

  mesh::Authorization* authorization(const Member& member) {
    auto& made = authorizations_[member.name];
    if (!made) made = std::make_unique<mesh::Authorization>(world.scheduler, sets_, rules_.get(), opa_for(member));
    return made.get();
  }

  fakes::World world;
  Member registry{world, "registry"};
  Member manager{world, "manager"};
  Member forwarder_{world, "forwarder"};
  Member endpoint{world, "endpoint"};
  Member client{world, "client"};
  Member intruder{world, "intruder"};
  FakeOpa opa;  // asked by the endpoint alone
  fakes::FakePlane plane;
  std::unique_ptr<mesh::RegistryChain> registry_chain;
  std::unique_ptr<mesh::Manager> manager_chain;
  std::unique_ptr<forwarder::Forwarder> forwarder_chain;
  std::unique_ptr<mesh::Endpoint> endpoint_chain;
  std::unique_ptr<mesh::Client> client_chain;
  std::optional<rpc::Descriptor> forwarder_socket;
  std::optional<rpc::Descriptor> endpoint_socket;

 private:
  static mesh::PolicySets sets_of(const Options& options) {
    mesh::PolicySets sets;
    sets.registry_server = mesh::parse_policies(mesh::kRegistryServerMasks).value();
    sets.registry_client = mesh::parse_policies(mesh::kRegistryClientMasks).value();
    sets.monitor = options.monitor;
    return sets;
  }
  static std::unique_ptr<mesh::RuleFile> rules_of(const Options& options) {
    if (options.rules.empty()) return nullptr;
    char path[] = "/tmp/patchbay-rules-XXXXXX";
    const int fd = ::mkstemp(path);
    if (fd < 0 || ::write(fd, options.rules.data(), options.rules.size()) < 0) std::abort();
    ::close(fd);
    auto rules = std::make_unique<mesh::RuleFile>(mesh::RuleFile::open(path).value());
    ::unlink(path);
    return rules;
  }
  mesh::Opa* opa_for(const Member& member) { return &member == &endpoint ? &opa : nullptr; }

  void start_registry() {
    registry_chain = std::make_unique<mesh::RegistryChain>(
        mesh::RegistryChainParts{world.scheduler, registry.tokens, stored_services_, stored_endpoints_, nullptr,
                                 nullptr, authorization(registry)});
    world.scheduler.run(registry_chain->start());
    registry_methods_ = std::make_unique<rpc::Services>();
    mesh::serve_registry(*registry_methods_, world.scheduler, registry_chain->services());
    mesh::serve_registry(*registry_methods_, world.scheduler, registry_chain->endpoints());
    listeners_.insert(listeners_.begin(), registry.transport->listen(kRegistry, *registry_methods_).value());
  }
  void listen(Member& member, const std::string& url, const rpc::Services& services) {
    listeners_.push_back(member.transport->listen(url, services).value());
  }
  std::unique_ptr<mesh::RegistryEnrolment> enroll(mesh::ServiceRegistry& services, mesh::EndpointRegistry& endpoints,
                                                  const std::string& name, const std::string& service,
                                                  const rpc::Descriptor& socket, const mesh::Labels& labels,
                                                  bool offer) {
    mesh::EnrolmentPlan plan;
    plan.endpoint.set_name(name);
    plan.endpoint.add_network_service_names(service);
    auto& own = *(*plan.endpoint.mutable_network_service_labels())[service].mutable_labels();
    for (const auto& [key, value] : labels) own[key] = value;
    plan.endpoint.set_url(socket.url());
    plan.socket = socket;
    if (offer) {
      mesh::NetworkService offered;
      offered.set_name(service);
      offered.set_payload("IP");
      plan.services = {offered};
    }
    auto enrolment = std::make_unique<mesh::RegistryEnrolment>(world.scheduler, services, endpoints, std::move(plan));
    world.scheduler.run(enrolment->start());
    world.scheduler.run_ready();
    return enrolment;
  }
  mesh::PrefixFile no_prefixes() {
    mesh::FileAccess nothing;
    nothing.stamp = [](const std::string&) { return std::nullopt; };
    nothing.read = [](const std::string& path) { return base::fail(base::Code::not_found, "{} is not there", path); };
    return {world.scheduler, "/excluded_prefixes.yaml", std::move(nothing)};
  }

  const mesh::PolicySets sets_;
  const std::unique_ptr<mesh::RuleFile> rules_;
  std::map<std::string, std::unique_ptr<mesh::Authorization>> authorizations_;
  registry::MemoryRegistry<mesh::Services> stored_services_{world.scheduler};
  registry::MemoryRegistry<mesh::Endpoints> stored_endpoints_{world.scheduler};
  std::unique_ptr<rpc::Services> registry_methods_;
  std::vector<std::unique_ptr<rpc::Listener>> listeners_;
  mesh::RegistryRemote<mesh::Services> manager_services_{*manager.transport, kRegistry, authorization(manager)};
  mesh::RegistryRemote<mesh::Endpoints> manager_endpoints_{*manager.transport, kRegistry, authorization(manager)};
  mesh::RegistryRemote<mesh::Services> forwarder_services_{*forwarder_.transport, kManager, authorization(forwarder_)};
  mesh::RegistryRemote<mesh::Endpoints> forwarder_endpoints_{*forwarder_.transport, kManager,
                                                             authorization(forwarder_)};
  mesh::RegistryRemote<mesh::Services> endpoint_services_{*endpoint.transport, kManager, authorization(endpoint)};
  mesh::RegistryRemote<mesh::Endpoints> endpoint_endpoints_{*endpoint.transport, kManager, authorization(endpoint)};
  std::unique_ptr<mesh::RegistryEnrolment> forwarder_enrolment_;
  std::unique_ptr<mesh::RegistryEnrolment> endpoint_enrolment_;
  fakes::FakeLiveness liveness_{world.scheduler};
};

}  // namespace attacks
