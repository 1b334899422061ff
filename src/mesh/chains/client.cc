// SPDX-License-Identifier: Apache-2.0
#include "mesh/chains/client.h"

#include "base/log.h"
#include "mesh/elements/authorize/authorize_answer.h"
#include "mesh/elements/connect/connect.h"
#include "mesh/elements/connect/connect_to.h"
#include "mesh/elements/kernel_client/kernel_client.h"
#include "mesh/elements/path/path.h"
#include "rpc/typed.h"

namespace mesh {

using base::Result;
using base::Task;

Client::Client(const ClientParts& parts)
    : scheduler_(parts.scheduler),
      transport_(parts.transport),
      liveness_(parts.liveness),
      name_(parts.name),
      connect_to_(parts.connect_to),
      heal_options_(parts.heal),
      begin_(std::make_shared<Begin>(Begin::Side::client, parts.scheduler)),
      refresh_(std::make_shared<Refresh>(parts.scheduler)),
      heal_(std::make_shared<Heal>(parts.scheduler, parts.random, parts.transport, parts.liveness, parts.heal,
                                   parts.observer)) {
  ChainBuilder chain;
  chain.add("path", std::make_shared<PathElement>(parts.name, parts.random));
  chain.add("begin", begin_);
  chain.add("refresh", refresh_);
  chain.add("connect_to", std::make_shared<ConnectTo>(parts.connect_to));
  chain.add("heal", heal_);
  chain.add("client_info", std::make_shared<ClientInfoLabels>(parts.client_info));
  chain.add("excluded_prefixes", std::make_shared<ExcludedPrefixes>(parts.awareness_groups));
  chain.add("kernel_client", std::make_shared<KernelClient>(parts.network_namespace, parts.random));
  chain.add("authorize_answer", std::make_shared<AuthorizeAnswer>(parts.authorization));
  chain.add("connect", std::make_shared<Connect>(parts.transport));
  chain_ = std::move(chain).build();
}

Task<std::optional<Connection>> Client::known_before(const std::string& id, const std::string& mechanism_type,
                                                     base::TimePoint deadline, base::StopToken stop) {
  auto channel = transport_.channel(connect_to_);
  if (!channel) co_return std::nullopt;
  MonitorScopeSelector selector;
  selector.add_path_segments()->set_id(id);
  rpc::CallOptions options;
  options.deadline = deadline;
  options.stop = stop;
  auto stream = co_await (*channel)->stream(method::kMonitor, selector.SerializeAsString(), std::move(options));
  if (!stream) co_return std::nullopt;
  auto bytes = co_await (*stream)->read();
  if (!bytes || !*bytes) co_return std::nullopt;
  auto event = rpc::parse<ConnectionEvent>(**bytes, method::kMonitor);
  if (!event) co_return std::nullopt;
  std::map<std::string, const Connection*> known;
  for (const auto& [key, connection] : event->connections()) known.emplace(key, &connection);
  for (const auto& [key, connection] : known) {
    const Path& path = connection->path();
    if (path.index() != 1 || path.path_segments_size() < 2 || path.path_segments(0).id() != id ||
        path.path_segments(0).name() != name_ || connection->mechanism().type() != mechanism_type) {
      continue;
    }
    Connection resumed = *connection;
    resumed.mutable_path()->set_index(0);
    resumed.set_id(id);
    co_return resumed;
  }
  co_return std::nullopt;
}

Task<Result<Connection>> Client::connect(const NetworkServiceUrl& url, std::size_t index, base::Duration timeout,
                                         base::StopToken stop) {
  const std::string id = fmt::format("{}-{}", name_, index);
  CallContext context(scheduler_, base::saturating_add(scheduler_.now(), timeout), stop);

  NetworkServiceRequest request;
  Connection& connection = *request.mutable_connection();
  Mechanism& preference = *request.add_mechanism_preferences();
  preference.set_cls(std::string(kLocal));
  preference.set_type(url.mechanism);
  if (!url.interface_name.empty()) (*preference.mutable_parameters())[parameter::kName] = url.interface_name;

  if (auto before = co_await known_before(id, url.mechanism, context.deadline, stop)) {
    base::log::info("taking over {}, which an earlier life of this client asked for", describe(*before));
    connection = std::move(*before);
    const bool down = connection.state() == connection::DOWN;
    connection.set_state(connection::UP);
    if (down) {
      bool alive = false;
      if (heal_options_.check_liveness) {
        auto checked = co_await liveness_.alive(connection, heal_options_.timeout, stop);
        alive = checked && *checked;
      }
      if (!alive) {
        connection.clear_mechanism();
        connection.clear_network_service_endpoint_name();
        connection.set_state(connection::RESELECT_REQUESTED);
      }
    }
  } else {
    connection.set_id(id);
    connection.set_network_service(url.service);
    for (const auto& [key, value] : url.labels) (*connection.mutable_labels())[key] = value;
    connection.mutable_context();
  }
  co_return co_await chain_.request(context, std::move(request));
}

Task<void> Client::close_all(base::Duration timeout) {
  co_await begin_->close_all(base::saturating_add(scheduler_.now(), timeout));
}

Task<void> Client::finish() {
  co_await refresh_->finish();
  co_await heal_->finish();
  co_await begin_->finish();
}

}  // namespace mesh
