// SPDX-License-Identifier: Apache-2.0
// The mesh's processes in one: the real chains, wired as their commands wire them, over a loopback network, a fake
// plane and a clock moved by hand. Everything that reaches a server is on the tape.
//
//   fakes::World world;
//   fakes::ManagerProcess manager(world, "nsmgr", "tcp://10.0.0.1:5001", "");
//   fakes::ForwarderProcess forwarder(world, "forwarder", manager, "10.0.0.1");
//   fakes::EndpointProcess nse(world, "nse", manager, "ns", "IP");
//   fakes::ClientProcess nsc(world, "nsc", manager);
//   auto connection = nsc.connect("ns");
//
// Each process ends in good order when it is destroyed, except that forwarders and endpoints stay registered.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fakes/call_tape.h"
#include "fakes/fake_plane.h"
#include "fakes/loopback_network.h"
#include "fakes/manual_scheduler.h"
#include "forwarder/forwarder.h"
#include "mesh/chains/client.h"
#include "mesh/chains/endpoint.h"
#include "mesh/chains/manager.h"
#include "mesh/chains/registry.h"
#include "mesh/elements/registry_enrolment/registry_enrolment.h"
#include "mesh/elements/registry_remote/registry_remote.h"
#include "mesh/elements/registry_service/registry_service.h"
#include "registry/memory_registry.h"

namespace fakes {

inline constexpr const char* kRegistryUrl = "tcp://127.0.0.1:46009";

struct World {
  ManualScheduler scheduler;
  LoopbackNetwork network{scheduler};
  CallTape tape;
  base::SeededRandom random{7};
  base::Duration token_lifetime = std::chrono::hours(1);
  std::uint64_t next_inode = 100;

  // A file of a simulated kernel: a socket or a network namespace.
  rpc::Descriptor new_file(std::uint64_t device) { return rpc::Descriptor::simulated({device, ++next_inode}); }

  void finish(base::Task<void> task) { scheduler.run(flagged(std::move(task)), std::chrono::hours(2)); }
  static base::Task<bool> flagged(base::Task<void> task) {
    co_await task;
    co_return true;
  }
};

inline constexpr std::uint64_t kSocketDevice = 65024;
inline constexpr std::uint64_t kNamespaceDevice = 4;

// What every process has: tokens, and its way to others.
class Process {
 public:
  Process(World& w, const std::string& n)
      : world(w),
        name(n),
        tokens(w.scheduler, "spiffe://test.com/" + n, w.token_lifetime),
        credentials(tokens),
        transport(w.network.process(&credentials)) {}

  World& world;
  const std::string name;
  mesh::PlainTokens tokens;
  mesh::TokenCredentials credentials;
  std::unique_ptr<rpc::Transport> transport;

 protected:
  void listen(const std::string& url, const rpc::Services& services) {
    recorded_.push_back(std::make_unique<rpc::Services>(world.tape.record(name, services)));
    listeners_.push_back(std::move(transport->listen(url, *recorded_.back()).value()));
  }
  base::Task<void> finish_serving() {
    for (const auto& listener : listeners_) co_await listener->finish();
    listeners_.clear();
  }

 private:
  std::vector<std::unique_ptr<rpc::Services>> recorded_;
  std::vector<std::unique_ptr<rpc::Listener>> listeners_;
};

class RegistryProcess final : public Process {
 public:
  explicit RegistryProcess(World& w)
      : Process(w, "registry"),
        services(w.scheduler),
        endpoints(w.scheduler),
        chain({w.scheduler, tokens, services, endpoints}) {
    mesh::serve_registry(methods_, w.scheduler, chain.services());
    mesh::serve_registry(methods_, w.scheduler, chain.endpoints());
    listen(kRegistryUrl, methods_);
  }
  ~RegistryProcess() { world.finish(end()); }

  registry::MemoryRegistry<mesh::Services> services;
  registry::MemoryRegistry<mesh::Endpoints> endpoints;
  mesh::RegistryChain chain;

 private:
  base::Task<void> end() {
    co_await finish_serving();
    co_await chain.finish();
  }
  rpc::Services methods_;
};

class ManagerProcess final : public Process {
 public:
  // upstream: the registry's URL, or empty for a registry of its own.
  ManagerProcess(World& w, const std::string& n, std::string public_address, const std::string& upstream)
      : Process(w, n),
        public_url(std::move(public_address)),
        socket_url("unix:///" + n + "/nsm.io.sock"),
        own_services(w.scheduler),
        own_endpoints(w.scheduler),
        remote_services(*transport, upstream),
        remote_endpoints(*transport, upstream),
        manager({w.scheduler, w.random, *transport, tokens,
                 upstream.empty() ? static_cast<mesh::ServiceRegistry&>(own_services) : remote_services,
                 upstream.empty() ? static_cast<mesh::EndpointRegistry&>(own_endpoints) : remote_endpoints, n,
                 public_url, "forwarder", node_of(n), no_prefixes(w)}) {
    listen(socket_url, manager.services());
    listen(public_url, manager.services());
  }
  ~ManagerProcess() { world.finish(end()); }

  const std::string public_url;
  const std::string socket_url;
  registry::MemoryRegistry<mesh::Services> own_services;
  registry::MemoryRegistry<mesh::Endpoints> own_endpoints;
  mesh::RegistryRemote<mesh::Services> remote_services;
  mesh::RegistryRemote<mesh::Endpoints> remote_endpoints;
  mesh::Manager manager;

 private:
  base::Task<void> end() {
    co_await finish_serving();
    co_await manager.finish();
  }
  static mesh::ClientInfo node_of(const std::string& name) {
    mesh::ClientInfo info;
    info.node_name = "node-of-" + name;
    return info;
  }
  static mesh::PrefixFile no_prefixes(World& world) {
    mesh::FileAccess nothing;
    nothing.stamp = [](const std::string&) { return std::nullopt; };
    nothing.read = [](const std::string& path) { return base::fail(base::Code::not_found, "{} is not there", path); };
    return {world.scheduler, "/excluded_prefixes.yaml", std::move(nothing)};
  }
};

// What forwarders and endpoints share: a socket, and a registration at their manager.
class Enrolled : public Process {
 public:
  Enrolled(World& w, const std::string& n, const ManagerProcess& manager)
      : Process(w, n),
        socket(w.new_file(kSocketDevice)),
        services(*transport, manager.socket_url),
        endpoints(*transport, manager.socket_url) {}

  const rpc::Descriptor socket;
  mesh::RegistryRemote<mesh::Services> services;
  mesh::RegistryRemote<mesh::Endpoints> endpoints;
  std::unique_ptr<mesh::RegistryEnrolment> enrolment;

 protected:
  void enroll(const std::string& service, const mesh::Labels& labels, std::vector<mesh::NetworkService> offered) {
    mesh::EnrolmentPlan plan;
    plan.endpoint.set_name(name);
    plan.endpoint.add_network_service_names(service);
    auto& own = *(*plan.endpoint.mutable_network_service_labels())[service].mutable_labels();
    for (const auto& [key, value] : labels) own[key] = value;
    plan.endpoint.set_url(socket.url());
    plan.socket = socket;
    plan.services = std::move(offered);
    enrolment = std::make_unique<mesh::RegistryEnrolment>(world.scheduler, services, endpoints, std::move(plan));
    world.scheduler.run(enrolment->start());
    world.scheduler.run_ready();
  }
};

class ForwarderProcess final : public Enrolled {
 public:
  ForwarderProcess(World& w, const std::string& n, const ManagerProcess& manager, const std::string& underlay,
                   bool allow_plaintext_ip = false)
      : Enrolled(w, n, manager),
        forwarder({w.scheduler, w.random, *transport, tokens, services, endpoints, plane, n,
                   crossing_from(underlay, allow_plaintext_ip), w.token_lifetime}) {
    listen(socket.url(), forwarder.services());
    enroll("forwarder", {{"p2p", "true"}}, {});
  }
  ~ForwarderProcess() { world.finish(end()); }

  FakePlane plane;
  forwarder::Forwarder forwarder;

 private:
  base::Task<void> end() {
    co_await enrolment->finish();
    co_await finish_serving();
    co_await forwarder.finish();
  }
  static forwarder::CrossingOptions crossing_from(const std::string& underlay, bool allow_plaintext_ip) {
    forwarder::CrossingOptions options;
    options.underlay.address = wire::IpAddress::parse(underlay).value();
    options.allow_plaintext_ip = allow_plaintext_ip;
    return options;
  }
};

class EndpointProcess final : public Enrolled {
 public:
  EndpointProcess(World& w, const std::string& n, const ManagerProcess& manager, const std::string& service,
                  const std::string& payload, const mesh::Labels& labels = {})
      : Enrolled(w, n, manager),
        network_namespace(w.new_file(kNamespaceDevice)),
        endpoint(
            {w.scheduler,
             w.random,
             *transport,
             tokens,
             n,
             network_namespace,
             mesh::PointToPointIpam::make({{wire::Prefix::parse("172.16.0.0/29").value()}}, mesh::IpamPolicy::polite)
                 .value(),
             {},
             {},
             {}}) {
    listen(socket.url(), endpoint.services());
    mesh::NetworkService offered;
    offered.set_name(service);
    offered.set_payload(payload);
    enroll(service, labels, {offered});
  }
  ~EndpointProcess() { world.finish(end()); }

  const rpc::Descriptor network_namespace;
  mesh::Endpoint endpoint;

 private:
  base::Task<void> end() {
    co_await enrolment->finish();
    co_await finish_serving();
    co_await endpoint.finish();
  }
};

// Says what the test tells it to, a moment after it is asked, as a check that sends packets does.
class FakeLiveness final : public mesh::Liveness {
 public:
  explicit FakeLiveness(base::Scheduler& scheduler) : scheduler_(scheduler) {}

  base::Task<base::Result<bool>> alive(const mesh::Connection& connection, base::Duration timeout,
                                       base::StopToken stop) override {
    checked.push_back(connection.id());
    const bool slept =
        co_await base::sleep_for(scheduler_, std::min<base::Duration>(timeout, std::chrono::milliseconds(1)), stop);
    if (!slept) co_return base::fail(base::Code::cancelled, "the check was stopped");
    co_return answer;
  }

  base::Result<bool> answer = true;
  std::vector<std::string> checked;

 private:
  base::Scheduler& scheduler_;
};

class ClientProcess final : public Process {
 public:
  ClientProcess(World& w, const std::string& n, const ManagerProcess& manager)
      : Process(w, n), network_namespace(w.new_file(kNamespaceDevice)), client(parts(manager)) {}
  ~ClientProcess() { world.finish(client.finish()); }

  base::Result<mesh::Connection> connect(const std::string& service) {
    mesh::NetworkServiceUrl url;
    url.mechanism = std::string(mesh::kKernel);
    url.service = service;
    auto connection = world.scheduler.run(client.connect(url, 0, std::chrono::seconds(15), {}));
    world.scheduler.run_ready();
    if (!connection) return base::fail(base::Code::internal, "the request never ended");
    return std::move(*connection);
  }
  void close() {
    world.finish(client.close_all(std::chrono::seconds(5)));
    world.scheduler.run_ready();
  }

  const rpc::Descriptor network_namespace;
  FakeLiveness liveness{world.scheduler};
  std::vector<std::string> health;
  mesh::Client client;

 private:
  mesh::ClientParts parts(const ManagerProcess& manager) {
    mesh::HealOptions heal;
    return {world.scheduler,
            world.random,
            *transport,
            liveness,
            name,
            manager.socket_url,
            network_namespace,
            {},
            heal,
            [this](const std::string&, std::string_view what) { health.emplace_back(what); },
            {}};
  }
};

}  // namespace fakes
