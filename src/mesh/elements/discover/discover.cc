// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/discover/discover.h"

#include "base/log.h"
#include "mesh/core/match.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

RegistryCall registry_call(const CallContext& context) {
  return RegistryCall(context.scheduler, context.deadline, context.stop);
}

Task<Result<NetworkService>> find_service(ServiceRegistry& services, const CallContext& context, std::string name,
                                          std::string payload) {
  registry::NetworkServiceQuery query;
  query.mutable_network_service()->set_name(name);
  query.mutable_network_service()->set_payload(payload);
  RegistryCall call = registry_call(context);
  auto found = co_await find_all<Services>(services, call, std::move(query));
  if (!found) co_return std::unexpected(found.error().wrap("looking for network service " + name));
  for (auto& candidate : *found) {
    if (candidate.response.network_service().name() == name) {
      co_return std::move(*candidate.response.mutable_network_service());
    }
  }
  co_return fail(Code::not_found, "network service {} is not found: register it, or ask for one that exists", name);
}

Task<Result<NextHop>> Discover::find_named(CallContext& context, const std::string& name) {
  registry::NetworkServiceEndpointQuery query;
  query.mutable_network_service_endpoint()->set_name(name);
  RegistryCall call = registry_call(context);
  auto found = co_await find_all<Endpoints>(endpoints_, call, std::move(query));
  if (!found) co_return std::unexpected(found.error().wrap("looking for endpoint " + name));
  for (const auto& candidate : *found) {
    const NetworkServiceEndpoint& endpoint = candidate.response.network_service_endpoint();
    if (endpoint.name() == name) co_return NextHop(endpoint.url(), candidate.socket);
  }
  co_return fail(Code::not_found, "network service endpoint {} is not found", name);
}

Task<Result<Connection>> Discover::request(Call& call, NetworkServiceRequest request) {
  CallContext& context = call.context();
  const std::string named = request.connection().network_service_endpoint_name();
  if (!named.empty()) {
    auto hop = co_await find_named(context, named);
    if (!hop) co_return std::unexpected(hop.error());
    call.state().get<NextHop>() = *hop;
    co_return co_await call.next(std::move(request));
  }

  auto service =
      co_await find_service(services_, context, request.connection().network_service(), request.connection().payload());
  if (!service) co_return std::unexpected(service.error());

  registry::NetworkServiceEndpointQuery query;
  query.mutable_network_service_endpoint()->add_network_service_names(service->name());
  RegistryCall find = registry_call(context);
  auto found = co_await find_all<Endpoints>(endpoints_, find, std::move(query));
  if (!found) co_return std::unexpected(found.error().wrap("looking for endpoints of " + service->name()));

  std::map<std::string, NextHop> hops;
  std::vector<NetworkServiceEndpoint> alive;
  for (const auto& candidate : *found) {
    const NetworkServiceEndpoint& endpoint = candidate.response.network_service_endpoint();
    if (endpoint.has_expiration_time() && to_wall(endpoint.expiration_time()) <= context.scheduler.wall_now()) continue;
    if (hops.emplace(endpoint.name(), NextHop(endpoint.url(), candidate.socket)).second) alive.push_back(endpoint);
  }
  const auto candidates = match_endpoints(ordered(request.connection().labels()), *service, alive);
  if (candidates.empty()) {
    co_return fail(
        Code::not_found,
        "network service endpoint candidates not found: service {} has {} live endpoints and none matches the "
        "client's labels",
        service->name(), alive.size());
  }
  request.mutable_connection()->set_payload(service->payload());

  std::string failures;
  std::size_t& turn = turns_[service->name()];
  for (std::size_t attempt = 0; attempt < candidates.size(); ++attempt) {
    const std::string name = candidates[turn++ % candidates.size()].name();
    call.state().get<NextHop>() = hops.at(name);
    NetworkServiceRequest trial = request;
    trial.mutable_connection()->set_network_service_endpoint_name(name);
    auto connection = co_await call.next(std::move(trial));
    if (connection) co_return connection;
    base::log::info("endpoint {} did not take {}: {}", name, describe(request.connection()),
                    connection.error().message());
    failures += failures.empty() ? "" : "; ";
    failures += name + ": " + connection.error().message();
    if (context.stop.stopped() || context.scheduler.now() >= context.deadline) break;
  }
  co_return fail(Code::unknown, "all candidates have failed: {}", failures);
}

Task<Result<void>> Discover::close(Call& call, Connection connection) {
  // Endpoints move: the name may have a new address since the last request. If it is not registered any more, the old
  // address is as good as any.
  if (auto hop = co_await find_named(call.context(), connection.network_service_endpoint_name())) {
    call.state().get<NextHop>() = *hop;
  }
  co_return co_await call.next_close(std::move(connection));
}

}  // namespace mesh
