// SPDX-License-Identifier: Apache-2.0
// The processes of a simulated mesh: the real chains, wired as their commands wire them, over simulated transport,
// kernel and clock.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "forwarder/forwarder.h"
#include "mesh/chains/client.h"
#include "mesh/chains/endpoint.h"
#include "mesh/chains/manager.h"
#include "mesh/chains/registry.h"
#include "mesh/elements/registry_enrolment/registry_enrolment.h"
#include "mesh/elements/registry_remote/registry_remote.h"
#include "registry/memory_registry.h"
#include "sim/identities.h"
#include "sim/kernel.h"
#include "sim/network.h"
#include "sim/transport.h"
#include "sim/world.h"

namespace sim {

// What an endpoint does with its connections. The mesh's own, or a broken one that the tests put in its place.
class EndpointCore {
 public:
  virtual ~EndpointCore() = default;
  virtual const rpc::Services& services() const = 0;
  virtual const mesh::Begin& connections() const = 0;
  virtual base::Task<void> finish() = 0;
};

struct Settings {
  std::shared_ptr<const TrustDomain> trust_domain;  // null: no identities, tokens that prove nothing, no policies
  base::Duration token_lifetime = seconds(60);
  base::Duration request_timeout = seconds(15);
  base::Duration heal_interval = seconds(2);
  bool durable_registry = true;  // or it forgets everything when it dies
  bool inode_urls = true;        // endpoints and forwarders register by descriptor, or by path

  // Both may be replaced, by tests that see whether the invariants notice.
  std::function<std::unique_ptr<EndpointCore>(const mesh::EndpointParts&)> make_endpoint;
  std::function<std::unique_ptr<forwarder::Plane>(FakeKernel&, Process&, std::string mark)> make_plane;

  Settings();
  static Settings drawn(base::Random& random);
};

inline constexpr const char* kManagerUrl = "unix:///sim/manager.sock";
inline constexpr const char* kRegistryUrl = "tcp://registry:5002";

// What every process has: tokens, a transport, listeners, background work.
class Role : public Program {
 public:
  Role(Network& network, Process& process, const Settings& settings);

  Process& process() const { return process_; }
  // The connections this process knows; nothing if it keeps none.
  virtual const mesh::Begin* connections() const { return nullptr; }
  // Invariants of this process alone, after each of its events. Nothing if they hold.
  virtual std::optional<std::string> check() const { return std::nullopt; }

 protected:
  void listen(const std::string& url, const rpc::Services& services);
  // Takes nothing new and waits for calls under way.
  base::Task<void> finish_serving();
  // The listening socket at a path, by descriptor or by path as the settings have it.
  mesh::EnrolmentPlan plan(const std::string& name, const std::string& path) const;

  Network& network_;
  Process& process_;
  const Settings& settings_;
  const std::optional<RotatingSource> source_;
  const std::unique_ptr<mesh::TokenSource> issuer_;
  const std::unique_ptr<mesh::Authorization> policies_;
  mesh::TokenSource& tokens_;
  mesh::Authorization* const authorization_;  // null: everybody may do everything
  mesh::TokenCredentials credentials_;
  Transport transport_;
  base::TaskScope tasks_;
  std::vector<std::unique_ptr<rpc::Listener>> listeners_;
};

// What survives a registry's death.
struct RegistryDisk {
  std::map<std::string, mesh::NetworkService> services;
  std::map<std::string, mesh::NetworkServiceEndpoint> endpoints;
};

class RegistryRole final : public Role {
 public:
  RegistryRole(Network& network, Process& process, const Settings& settings, RegistryDisk& disk);
  ~RegistryRole() override;
  base::Task<void> finish() override;

  std::size_t endpoints() const;

 private:
  struct Stores;
  base::Task<void> boot();

  const std::unique_ptr<Stores> stores_;
  mesh::RegistryChain chain_;
  rpc::Services services_;
};

class ManagerRole final : public Role {
 public:
  ManagerRole(Network& network, Process& process, const Settings& settings, const std::string& address);
  base::Task<void> finish() override;
  const mesh::Begin* connections() const override { return &manager_.connections(); }

 private:
  mesh::RegistryRemote<mesh::Services> upstream_services_;
  mesh::RegistryRemote<mesh::Endpoints> upstream_endpoints_;
  mesh::Manager manager_;
};

class ForwarderRole final : public Role {
 public:
  ForwarderRole(Network& network, Process& process, const Settings& settings, FakeKernel& kernel,
                const wire::IpAddress& underlay);
  base::Task<void> finish() override;
  const mesh::Begin* connections() const override { return &forwarder_.connections(); }
  std::size_t vnis() const { return forwarder_.vnis(); }

 private:
  base::Task<void> boot();

  const std::unique_ptr<forwarder::Plane> plane_;
  mesh::RegistryRemote<mesh::Services> services_registry_;
  mesh::RegistryRemote<mesh::Endpoints> endpoints_registry_;
  forwarder::Forwarder forwarder_;
  std::unique_ptr<mesh::RegistryEnrolment> enrolment_;
};

// A pod as its processes find it.
struct PodParts {
  std::string name;
  std::string service;
  std::string payload;  // endpoints
  rpc::Descriptor netns;
  std::string prefix;     // endpoints: the addresses they give
  std::size_t wires = 1;  // clients: how many connections they want
};

class EndpointRole final : public Role {
 public:
  EndpointRole(Network& network, Process& process, const Settings& settings, PodParts pod);
  base::Task<void> finish() override;
  const mesh::Begin* connections() const override { return &core_->connections(); }
  std::optional<std::string> check() const override;
  // Whether every address of the prefix is free. Requires that no connection exists.
  bool all_addresses_free() const;

 private:
  base::Task<void> boot();

  const PodParts pod_;
  mesh::RegistryRemote<mesh::Services> services_registry_;
  mesh::RegistryRemote<mesh::Endpoints> endpoints_registry_;
  mesh::PointToPointIpam addresses_;
  const std::unique_ptr<EndpointCore> core_;
  std::unique_ptr<mesh::RegistryEnrolment> enrolment_;
};

class ClientRole final : public Role {
 public:
  ClientRole(Network& network, Process& process, const Settings& settings, PodParts pod, mesh::Liveness& liveness);
  base::Task<void> finish() override;
  const mesh::Begin* connections() const override { return &client_.connections(); }
  // How many of its wires were connected once.
  std::size_t connected() const { return connected_; }

 private:
  base::Task<void> keep(std::size_t index);
  base::Task<base::Result<mesh::Connection>> attempt(std::size_t index);

  const PodParts pod_;
  mesh::Client client_;
  std::size_t connected_ = 0;
};

}  // namespace sim
