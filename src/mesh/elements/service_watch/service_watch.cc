// SPDX-License-Identifier: Apache-2.0
#include "mesh/elements/service_watch/service_watch.h"

#include "base/log.h"
#include "mesh/core/match.h"

namespace mesh {

using base::Result;
using base::Task;
using namespace std::chrono_literals;

namespace {

constexpr base::Duration kRestart = 100ms;      // between two tries to watch
constexpr base::Duration kLookupTimeout = 15s;  // of one endpoint

}  // namespace

struct ServiceWatch::Watch {
  struct Member {
    Labels labels;
    std::string endpoint;
    std::shared_ptr<ConnectionEvents> events;
  };
  std::map<std::string, Member> members;  // by connection
  base::StopSource stop;
};

Task<Result<Connection>> ServiceWatch::request(Call& call, NetworkServiceRequest request) {
  Labels labels = ordered(request.connection().labels());
  auto connection = co_await call.next(std::move(request));
  if (!connection) co_return connection;

  const std::string& service = connection->network_service();
  auto& watch = watches_[service];
  const bool first = watch == nullptr;
  if (first) watch = std::make_shared<Watch>();
  watch->members.insert_or_assign(
      connection->id(),
      Watch::Member{std::move(labels), connection->network_service_endpoint_name(), call.context().events});
  if (first) tasks_.spawn(this->watch(service, watch));
  co_return connection;
}

Task<Result<void>> ServiceWatch::close(Call& call, Connection connection) {
  leave(connection.network_service(), connection.id());
  co_return co_await call.next_close(std::move(connection));
}

void ServiceWatch::leave(const std::string& service, const std::string& id) {
  const auto found = watches_.find(service);
  if (found == watches_.end()) return;
  const auto watch = found->second;
  watch->members.erase(id);
  if (!watch->members.empty()) return;
  watches_.erase(found);
  watch->stop.request_stop();
}

Task<void> ServiceWatch::watch(std::string service, std::shared_ptr<Watch> watch) {
  auto ended = tasks_.stop_token().on_stop([watch] { watch->stop.request_stop(); });
  const base::StopToken stop = watch->stop.token();
  while (!stop.stopped()) {
    RegistryCall call(scheduler_, base::kNoDeadline, stop);
    registry::NetworkServiceQuery query;
    query.mutable_network_service()->set_name(service);
    query.set_watch(true);
    auto stream = co_await services_.find(call, std::move(query));
    while (stream && !stop.stopped()) {
      auto found = co_await (*stream)->next();
      if (stop.stopped() || !found || !*found) break;
      const auto& response = (*found)->response;
      if (response.network_service().name() != service || response.deleted()) continue;
      const bool checked = co_await check(response.network_service(), watch);
      if (!checked) break;  // watching anew tells of the service anew
    }
    co_await base::sleep_for(scheduler_, kRestart, stop);
  }
}

Task<bool> ServiceWatch::check(const NetworkService& service, std::shared_ptr<Watch> watch) {
  std::map<std::string, std::vector<NetworkServiceEndpoint>> endpoints;  // by name; looked up once a change
  const auto members = watch->members;
  for (const auto& [id, member] : members) {
    if (watch->stop.stopped()) co_return true;
    auto known = endpoints.find(member.endpoint);
    if (known == endpoints.end()) {
      RegistryCall call(scheduler_, scheduler_.now() + kLookupTimeout, watch->stop.token());
      registry::NetworkServiceEndpointQuery query;
      query.mutable_network_service_endpoint()->set_name(member.endpoint);
      auto found = co_await find_all<Endpoints>(endpoints_, call, std::move(query));
      if (!found) {
        base::log::warning("checking endpoint {} against service {}: {}", member.endpoint, service.name(),
                           found.error().message());
        co_return false;
      }
      std::vector<NetworkServiceEndpoint> exact;
      for (const auto& candidate : *found) {
        if (candidate.response.network_service_endpoint().name() == member.endpoint) {
          exact.push_back(candidate.response.network_service_endpoint());
        }
      }
      known = endpoints.emplace(member.endpoint, std::move(exact)).first;
    }
    // An endpoint that is not registered now may be between two registrations: monitor and heal judge that.
    if (known->second.empty() || !match_endpoints(member.labels, service, known->second).empty()) continue;
    base::log::info("service {} no longer leads {} to endpoint {}: closing the connection", service.name(), id,
                    member.endpoint);
    member.events->close_soon();
  }
  co_return true;
}

}  // namespace mesh
