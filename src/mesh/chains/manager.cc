// SPDX-License-Identifier: Apache-2.0
#include "mesh/chains/manager.h"

#include "mesh/chains/serving.h"
#include "mesh/elements/authorize/authorize.h"
#include "mesh/elements/authorize_monitor/authorize_monitor.h"
#include "mesh/elements/client_info/client_info.h"
#include "mesh/elements/connect/connect.h"
#include "mesh/elements/descriptors/descriptors.h"
#include "mesh/elements/excluded_prefixes/node_excluded_prefixes.h"
#include "mesh/elements/forwarder_choice/forwarder_choice.h"
#include "mesh/elements/path/path.h"
#include "mesh/elements/path_token/path_token.h"
#include "mesh/elements/registry_service/registry_service.h"
#include "mesh/elements/timeout/timeout.h"
#include "mesh/elements/trim_path/trim_path.h"

namespace mesh {

namespace {

Labels labels_of(const ClientInfo& info) {
  google::protobuf::Map<std::string, std::string> labels;
  add_labels(info, labels);
  return ordered(labels);
}

}  // namespace

Manager::Manager(const ManagerParts& parts)
    : registry_({parts.scheduler, parts.tokens, parts.public_url, labels_of(parts.client_info), parts.services,
                 parts.endpoints, parts.authorization}),
      begin_(std::make_shared<Begin>(Begin::Side::server, parts.scheduler)),
      monitor_(std::make_shared<Monitor>(parts.scheduler, parts.transport)),
      service_watch_(std::make_shared<ServiceWatch>(parts.scheduler, registry_.services(), registry_.endpoints())) {
  ChainBuilder chain;
  chain.add("path", std::make_shared<PathElement>(parts.name, parts.random));
  chain.add("path_token", std::make_shared<PathToken>(parts.tokens));
  const auto authorize = std::make_shared<Authorize>(parts.authorization, begin_);
  chain.add("authorize", authorize);
  chain.add("begin", begin_);
  chain.add("timeout", std::make_shared<Timeout>());
  chain.add("monitor", monitor_);
  chain.add("trim_path", std::make_shared<TrimPath>());
  chain.add("client_info", std::make_shared<ClientInfoLabels>(parts.client_info));
  chain.add("forwarder_choice", std::make_shared<ForwarderChoice>(registry_.services(), registry_.endpoints(),
                                                                  parts.forwarder_service, parts.public_url));
  chain.add("service_watch", service_watch_);
  chain.add("node_excluded_prefixes", std::make_shared<NodeExcludedPrefixes>(parts.excluded_prefixes));
  chain.add("descriptors", std::make_shared<Descriptors>());
  chain.add("connect", std::make_shared<Connect>(parts.transport));
  chain_ = std::move(chain).build();

  serve_connections(services_, parts.scheduler, chain_);
  serve_monitor(services_, AuthorizeMonitor(*monitor_, parts.authorization, authorize));
  serve_registry(services_, parts.scheduler, registry_.services());
  serve_registry(services_, parts.scheduler, registry_.endpoints());
  serve_health(services_, parts.scheduler,
               {"networkservice.NetworkService", "connection.MonitorConnection", "registry.NetworkServiceRegistry",
                "registry.NetworkServiceEndpointRegistry"});
}

base::Task<void> Manager::finish() {
  co_await service_watch_->finish();
  co_await monitor_->finish();
  co_await begin_->finish();
  co_await registry_.finish();
}

}  // namespace mesh
