// SPDX-License-Identifier: Apache-2.0
#include "sim/roles.h"

#include <fmt/format.h>

#include <set>

#include "mesh/elements/path_token/spiffe_tokens.h"
#include "mesh/elements/registry_service/registry_service.h"

namespace sim {

using base::Result;
using base::Task;

namespace {

constexpr const char* kForwarderService = "forwarder";
constexpr base::Duration kEpsilon = seconds(2);       // from a deadline to the call's end: what the scheduler owes
constexpr base::Duration kCloseTimeout = seconds(5);  // of a client that ends

class RealEndpoint final : public EndpointCore {
 public:
  explicit RealEndpoint(const mesh::EndpointParts& parts) : endpoint_(parts) {}
  const rpc::Services& services() const override { return endpoint_.services(); }
  const mesh::Begin& connections() const override { return endpoint_.connections(); }
  Task<void> finish() override { return endpoint_.finish(); }

 private:
  mesh::Endpoint endpoint_;
};

// Writes what the store takes to a disk that outlives the process.
template <typename Kind>
class Recorded final : public mesh::RegistryElement<Kind> {
 public:
  using Record = typename Kind::Record;
  Recorded(Process& process, std::map<std::string, Record>& disk) : process_(process), disk_(disk) {}

  Task<Result<Record>> enroll(mesh::RegistryCall& call, Record record) override {
    auto stored = co_await this->next().enroll(call, std::move(record));
    if (stored && process_.alive()) disk_[stored->name()] = *stored;
    co_return stored;
  }
  Task<Result<void>> withdraw(mesh::RegistryCall& call, Record record) override {
    if (process_.alive()) disk_.erase(record.name());
    co_return co_await this->next().withdraw(call, std::move(record));
  }

 private:
  Process& process_;
  std::map<std::string, Record>& disk_;
};

mesh::ClientInfo info_of(const Process& process) {
  mesh::ClientInfo info;
  info.node_name = process.node();
  return info;
}

mesh::PrefixFile no_excluded_prefixes(Process& process) {
  mesh::FileAccess nothing;
  nothing.stamp = [](const std::string&) { return std::nullopt; };
  nothing.read = [](const std::string& path) { return base::fail(base::Code::not_found, "{} is not there", path); };
  return {process, "/sim/excluded_prefixes.yaml", std::move(nothing)};
}

mesh::PointToPointIpam pool_of(const std::string& prefix) {
  return *mesh::PointToPointIpam::make({{*wire::Prefix::parse(prefix)}}, mesh::IpamPolicy::polite);
}

}  // namespace

Settings::Settings()
    : make_endpoint([](const mesh::EndpointParts& parts) { return std::make_unique<RealEndpoint>(parts); }),
      make_plane([](FakeKernel& kernel, Process& process, std::string mark) {
        return std::make_unique<FakePlane>(kernel, process, std::move(mark));
      }) {}

Settings Settings::drawn(base::Random& random) {
  Settings settings;
  settings.token_lifetime = seconds(30 + 15 * static_cast<int>(base::uniform(random, 5)));
  settings.durable_registry = chance(random, 700'000);
  settings.inode_urls = chance(random, 500'000);
  return settings;
}

namespace {

std::unique_ptr<mesh::TokenSource> make_tokens(Process& process, const identity::Source* source,
                                               base::Duration lifetime) {
  if (source != nullptr) return std::make_unique<mesh::SpiffeTokens>(process, *source, lifetime);
  return std::make_unique<mesh::PlainTokens>(process, "spiffe://sim/" + process.name(), lifetime);
}

mesh::PolicySets all_policies() {
  mesh::PolicySets sets;
  sets.registry_server = *mesh::parse_policies(mesh::kRegistryServerMasks);
  sets.registry_client = *mesh::parse_policies(mesh::kRegistryClientMasks);
  return sets;
}

}  // namespace

Role::Role(Network& network, Process& process, const Settings& settings)
    : network_(network),
      process_(process),
      settings_(settings),
      source_(settings.trust_domain ? std::make_optional<RotatingSource>(process, *settings.trust_domain)
                                    : std::nullopt),
      issuer_(make_tokens(process, source_ ? &*source_ : nullptr, settings.token_lifetime)),
      policies_(source_ ? std::make_unique<mesh::Authorization>(process, all_policies()) : nullptr),
      tokens_(*issuer_),
      authorization_(policies_.get()),
      credentials_(tokens_),
      transport_(network, process, &credentials_, [this] { return source_ ? source_->self() : rpc::Peer(); }),
      tasks_(process) {}

void Role::listen(const std::string& url, const rpc::Services& services) {
  auto listener = transport_.listen(url, services);
  if (listener) {
    listeners_.push_back(std::move(*listener));
  } else if (process_.alive()) {
    process_.world().violate(fmt::format("{} cannot listen: {}", process_.label(), listener.error().message()));
  }
}

Task<void> Role::finish_serving() {
  for (const auto& listener : listeners_) co_await listener->finish();
}

mesh::EnrolmentPlan Role::plan(const std::string& name, const std::string& path) const {
  mesh::EnrolmentPlan plan;
  plan.endpoint.set_name(name);
  plan.endpoint.set_url("unix://" + path);
  if (settings_.inode_urls) {
    if (auto socket = network_.open_socket(process_.node(), path)) {
      plan.endpoint.set_url(socket->url());
      plan.socket = std::move(*socket);
    }
  }
  return plan;
}

struct RegistryRole::Stores {
  Stores(Process& process, RegistryDisk& disk)
      : services(process),
        endpoints(process),
        recorded_services(process, disk.services),
        recorded_endpoints(process, disk.endpoints) {
    recorded_services.set_next(services);
    recorded_endpoints.set_next(endpoints);
  }
  registry::MemoryRegistry<mesh::Services> services;
  registry::MemoryRegistry<mesh::Endpoints> endpoints;
  Recorded<mesh::Services> recorded_services;
  Recorded<mesh::Endpoints> recorded_endpoints;
};

RegistryRole::RegistryRole(Network& network, Process& process, const Settings& settings, RegistryDisk& disk)
    : Role(network, process, settings),
      stores_(std::make_unique<Stores>(process, disk)),
      chain_({process, tokens_, stores_->recorded_services, stores_->recorded_endpoints, nullptr, nullptr,
              authorization_}) {
  if (!settings.durable_registry) disk = {};
  for (const auto& [name, record] : disk.services) stores_->services.put(record);
  for (const auto& [name, record] : disk.endpoints) stores_->endpoints.put(record);
  mesh::serve_registry(services_, process, chain_.services());
  mesh::serve_registry(services_, process, chain_.endpoints());
  tasks_.spawn(boot());
}

RegistryRole::~RegistryRole() = default;

std::size_t RegistryRole::endpoints() const { return stores_->endpoints.size(); }

Task<void> RegistryRole::boot() {
  auto started = co_await chain_.start();
  if (!started) process_.log("registry: " + started.error().message());
  listen("tcp://:5002", services_);
}

Task<void> RegistryRole::finish() {
  co_await tasks_.finish();
  co_await finish_serving();
  co_await chain_.finish();
}

ManagerRole::ManagerRole(Network& network, Process& process, const Settings& settings, const std::string& address)
    : Role(network, process, settings),
      upstream_services_(transport_, kRegistryUrl, authorization_),
      upstream_endpoints_(transport_, kRegistryUrl, authorization_),
      manager_({process, process.random(), transport_, tokens_, upstream_services_, upstream_endpoints_, process.name(),
                "tcp://" + address + ":5001", kForwarderService, info_of(process), no_excluded_prefixes(process),
                authorization_}) {
  listen(kManagerUrl, manager_.services());
  listen("tcp://" + address + ":5001", manager_.services());
}

Task<void> ManagerRole::finish() {
  co_await tasks_.finish();
  co_await finish_serving();
  co_await manager_.finish();
}

namespace {

forwarder::CrossingOptions crossing_from(const wire::IpAddress& underlay) {
  forwarder::CrossingOptions options;
  options.underlay.address = underlay;
  options.allow_plaintext_ip = true;
  return options;
}

}  // namespace

ForwarderRole::ForwarderRole(Network& network, Process& process, const Settings& settings, FakeKernel& kernel,
                             const wire::IpAddress& underlay)
    : Role(network, process, settings),
      plane_(settings.make_plane(kernel, process, process.name())),
      services_registry_(transport_, kManagerUrl, authorization_),
      endpoints_registry_(transport_, kManagerUrl, authorization_),
      forwarder_({process, process.random(), transport_, tokens_, services_registry_, endpoints_registry_, *plane_,
                  process.name(), crossing_from(underlay), settings.token_lifetime, authorization_}) {
  tasks_.spawn(boot());
}

Task<void> ForwarderRole::boot() {
  co_await forwarder_.start();
  if (tasks_.stop_token().stopped()) co_return;
  const std::string path = "/sim/" + process_.name() + ".sock";
  listen("unix://" + path, forwarder_.services());
  auto wanted = plan(process_.name(), path);
  wanted.endpoint.add_network_service_names(kForwarderService);
  auto& labels = (*wanted.endpoint.mutable_network_service_labels())[kForwarderService];
  (*labels.mutable_labels())["p2p"] = "true";
  enrolment_ =
      std::make_unique<mesh::RegistryEnrolment>(process_, services_registry_, endpoints_registry_, std::move(wanted));
  auto enrolled = co_await enrolment_->start();
  if (!enrolled && process_.alive()) process_.log("forwarder: " + enrolled.error().message());
}

Task<void> ForwarderRole::finish() {
  tasks_.request_stop();
  if (enrolment_) {
    auto withdrawn = co_await enrolment_->withdraw();
    if (!withdrawn && process_.alive()) process_.log(withdrawn.error().message());
  }
  co_await tasks_.finish();
  co_await finish_serving();
  co_await forwarder_.finish();
}

namespace {

mesh::EndpointParts endpoint_parts(Process& process, rpc::Transport& transport, mesh::TokenSource& tokens,
                                   const PodParts& pod, mesh::PointToPointIpam addresses,
                                   mesh::Authorization* authorization) {
  return {process, process.random(), transport, tokens, pod.name, pod.netns, std::move(addresses), {}, {},
          {},      authorization};
}

}  // namespace

EndpointRole::EndpointRole(Network& network, Process& process, const Settings& settings, PodParts pod)
    : Role(network, process, settings),
      pod_(std::move(pod)),
      services_registry_(transport_, kManagerUrl, authorization_),
      endpoints_registry_(transport_, kManagerUrl, authorization_),
      addresses_(pool_of(pod_.prefix)),
      core_(settings.make_endpoint(endpoint_parts(process, transport_, tokens_, pod_, addresses_, authorization_))) {
  tasks_.spawn(boot());
}

Task<void> EndpointRole::boot() {
  const std::string path = "/sim/" + pod_.name + ".sock";
  listen("unix://" + path, core_->services());
  auto wanted = plan(pod_.name, path);
  mesh::NetworkService service;
  service.set_name(pod_.service);
  service.set_payload(pod_.payload);
  wanted.services.push_back(service);
  wanted.endpoint.add_network_service_names(pod_.service);
  (*wanted.endpoint.mutable_network_service_labels())[pod_.service];
  enrolment_ =
      std::make_unique<mesh::RegistryEnrolment>(process_, services_registry_, endpoints_registry_, std::move(wanted));
  auto enrolled = co_await enrolment_->start();
  if (!enrolled && process_.alive()) process_.log("endpoint: " + enrolled.error().message());
}

Task<void> EndpointRole::finish() {
  tasks_.request_stop();
  if (enrolment_) {
    auto withdrawn = co_await enrolment_->withdraw();
    if (!withdrawn && process_.alive()) process_.log(withdrawn.error().message());
  }
  co_await tasks_.finish();
  co_await finish_serving();
  co_await core_->finish();
}

std::optional<std::string> EndpointRole::check() const {
  std::map<std::string, std::string> owners;
  for (const mesh::Connection& connection : core_->connections().connections()) {
    const auto& addresses = connection.context().ip_context();
    for (const auto* list : {&addresses.src_ip_addrs(), &addresses.dst_ip_addrs()}) {
      for (const std::string& address : *list) {
        const auto [entry, fresh] = owners.emplace(address, connection.id());
        if (!fresh) return fmt::format("address {} belongs to {} and to {}", address, entry->second, connection.id());
      }
    }
  }
  return std::nullopt;
}

bool EndpointRole::all_addresses_free() const {
  // A probe gets the lowest pair of an untouched pool of the same prefix.
  connectioncontext::IPContext probed;
  connectioncontext::IPContext expected;
  const auto probe = addresses_.assign({}, probed);
  const auto untouched = pool_of(pod_.prefix).assign({}, expected);
  return probe && untouched && probed.SerializeAsString() == expected.SerializeAsString();
}

namespace {

mesh::ClientParts client_parts(Process& process, rpc::Transport& transport, mesh::Liveness& liveness,
                               const PodParts& pod, base::Duration heal_interval, mesh::Authorization* authorization) {
  mesh::HealOptions heal;
  heal.interval = heal_interval;
  return {process,   process.random(), transport, liveness, pod.name, kManagerUrl,
          pod.netns, info_of(process), heal,      {},       {},       authorization};
}

}  // namespace

ClientRole::ClientRole(Network& network, Process& process, const Settings& settings, PodParts pod,
                       mesh::Liveness& liveness)
    : Role(network, process, settings),
      pod_(std::move(pod)),
      client_(client_parts(process, transport_, liveness, pod_, settings.heal_interval, authorization_)) {
  for (std::size_t index = 0; index < pod_.wires; ++index) tasks_.spawn(keep(index));
}

Task<Result<mesh::Connection>> ClientRole::attempt(std::size_t index) {
  mesh::NetworkServiceUrl url;
  url.mechanism = mesh::kKernel;
  url.service = pod_.service;
  url.interface_name = fmt::format("nsm-{}", index);
  // Twice: a request whose answer is useless is undone, and the undo has as long as the request had.
  const auto ended = std::make_shared<bool>(false);
  const auto limit = process_.now() + settings_.request_timeout * 2 + kEpsilon;
  process_.post_at(limit, [this, ended] {
    if (*ended || process_.state() != Process::State::running) return;
    process_.post_at(process_.now() + kEpsilon, [this, ended] {  // it may have been paused
      if (!*ended && process_.state() == Process::State::running) {
        process_.world().violate(fmt::format("{}: a request has not ended by twice its timeout of {} s",
                                             process_.label(), settings_.request_timeout / seconds(1)));
      }
    });
  });
  auto connection = co_await client_.connect(url, index, settings_.request_timeout, tasks_.stop_token());
  *ended = true;
  co_return connection;
}

Task<void> ClientRole::keep(std::size_t index) {
  const auto stop = tasks_.stop_token();
  while (!stop.stopped()) {
    auto connection = co_await attempt(index);
    if (connection) {
      process_.log(fmt::format("wire {} is connected to {}", index, connection->network_service_endpoint_name()));
      ++connected_;
      co_return;
    }
    if (process_.alive()) process_.log(fmt::format("wire {}: {}", index, connection.error().message()));
    const auto pause = between(process_.random(), milliseconds(200), seconds(1));
    const bool slept = co_await base::sleep_for(process_, pause, stop);
    if (!slept) co_return;
  }
}

Task<void> ClientRole::finish() {
  co_await tasks_.finish();
  if (process_.alive()) co_await client_.close_all(kCloseTimeout);
  co_await client_.finish();
}

}  // namespace sim
