// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/forwarder_choice/forwarder_choice.h"

#include <algorithm>

#include "base/log.h"
#include "mesh/core/match.h"
#include "mesh/elements/discover/discover.h"

namespace mesh {

using base::Code;
using base::fail;
using base::Result;
using base::Task;

namespace {

struct ChosenForwarder {
  std::string name;
};

// The segment after this process's own, if the path has one.
std::string next_on_path(const Connection& connection) {
  const int next = static_cast<int>(connection.path().index()) + 1;
  return next < connection.path().path_segments_size() ? connection.path().path_segments(next).name() : std::string();
}

}  // namespace

Task<Result<std::vector<Found<Endpoints>>>> ForwarderChoice::find(CallContext& context, std::string name) {
  registry::NetworkServiceEndpointQuery query;
  auto* wanted = query.mutable_network_service_endpoint();
  wanted->set_name(name);
  wanted->add_network_service_names(service_);
  wanted->set_url(public_url_);
  RegistryCall call = registry_call(context);
  auto found = co_await find_all<Endpoints>(endpoints_, call, std::move(query));
  if (!found) co_return std::unexpected(found.error().wrap("looking for a forwarder"));
  std::erase_if(*found, [&](const Found<Endpoints>& candidate) {
    const NetworkServiceEndpoint& endpoint = candidate.response.network_service_endpoint();
    return (!name.empty() && endpoint.name() != name) ||
           (endpoint.has_expiration_time() && to_wall(endpoint.expiration_time()) <= context.scheduler.wall_now());
  });
  co_return found;
}

Task<Result<Connection>> ForwarderChoice::request(Call& call, NetworkServiceRequest request) {
  CallContext& context = call.context();
  const bool reselect = request.connection().state() == connection::RESELECT_REQUESTED;
  auto& chosen = call.state().get<ChosenForwarder>();
  if (reselect) chosen.name.clear();

  auto service =
      co_await find_service(services_, context, request.connection().network_service(), request.connection().payload());
  if (!service) co_return std::unexpected(service.error());
  auto found = co_await find(context, chosen.name);
  if (!found) co_return std::unexpected(found.error());

  std::map<std::string, NextHop> hops;
  std::vector<NetworkServiceEndpoint> forwarders;
  for (const auto& candidate : *found) {
    const NetworkServiceEndpoint& endpoint = candidate.response.network_service_endpoint();
    if (hops.emplace(endpoint.name(), NextHop(endpoint.url(), candidate.socket)).second) forwarders.push_back(endpoint);
  }
  auto candidates = match_forwarders(ordered(request.connection().labels()), *service, service_, forwarders);
  if (candidates.empty()) {
    if (!chosen.name.empty()) co_return fail(Code::unavailable, "forwarder {} is not available", chosen.name);
    co_return fail(Code::not_found,
                   "no candidates found: this node has {} forwarders registered as '{}' and none bears the labels that "
                   "service {} demands",
                   forwarders.size(), service_, service->name());
  }
  if (chosen.name.empty() && !reselect) {
    const std::string before = next_on_path(request.connection());
    std::ranges::stable_partition(candidates, [&](const auto& endpoint) { return endpoint.name() == before; });
  }

  std::string failures;
  for (const NetworkServiceEndpoint& candidate : candidates) {
    call.state().get<NextHop>() = hops.at(candidate.name());
    auto connection = co_await call.next(request);
    if (connection) {
      chosen.name = candidate.name();
      co_return connection;
    }
    failures += failures.empty() ? "" : "; ";
    failures += candidate.name() + ": " + connection.error().message();
    if (context.stop.stopped() || context.scheduler.now() >= context.deadline) break;
  }
  co_return fail(Code::unknown, "all forwarders have failed: {}", failures);
}

Task<Result<void>> ForwarderChoice::close(Call& call, Connection connection) {
  auto* chosen = call.state().find<ChosenForwarder>();
  const std::string name = chosen != nullptr && !chosen->name.empty() ? chosen->name : next_on_path(connection);
  auto found = co_await find(call.context(), name);
  if (found && !found->empty()) {
    call.state().get<NextHop>() =
        NextHop(found->front().response.network_service_endpoint().url(), found->front().socket);
  }
  co_return co_await call.next_close(std::move(connection));
}

}  // namespace mesh
