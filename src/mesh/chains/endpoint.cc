// SPDX-License-Identifier: Apache-2.0
#include "mesh/chains/endpoint.h"

#include "mesh/chains/serving.h"
#include "mesh/elements/authorize/authorize.h"
#include "mesh/elements/authorize_monitor/authorize_monitor.h"
#include "mesh/elements/descriptors/descriptors.h"
#include "mesh/elements/dns_config/dns_config.h"
#include "mesh/elements/idle/idle.h"
#include "mesh/elements/ipam/ipam.h"
#include "mesh/elements/kernel_endpoint/kernel_endpoint.h"
#include "mesh/elements/mechanisms/mechanisms.h"
#include "mesh/elements/path/path.h"
#include "mesh/elements/path_token/path_token.h"
#include "mesh/elements/timeout/timeout.h"
#include "mesh/elements/trim_path/trim_path.h"

namespace mesh {

Endpoint::Endpoint(const EndpointParts& parts)
    : begin_(std::make_shared<Begin>(Begin::Side::server, parts.scheduler)),
      monitor_(std::make_shared<Monitor>(parts.scheduler, parts.transport)) {
  Mechanisms::Offers mechanisms;
  mechanisms.emplace(kKernel, std::make_shared<KernelEndpoint>(parts.network_namespace, parts.random));

  ChainBuilder chain;
  chain.add("path", std::make_shared<PathElement>(parts.name, parts.random));
  chain.add("path_token", std::make_shared<PathToken>(parts.tokens));
  const auto authorize = std::make_shared<Authorize>(parts.authorization, begin_);
  chain.add("authorize", authorize);
  chain.add("begin", begin_);
  chain.add("timeout", std::make_shared<Timeout>());
  chain.add("monitor", monitor_);
  chain.add("trim_path", std::make_shared<TrimPath>());
  chain.add("idle", std::make_shared<Idle>(parts.scheduler, parts.idle_timeout, parts.idle));
  chain.add("ipam", std::make_shared<Ipam>(parts.addresses));
  chain.add("dns_config", std::make_shared<DnsConfig>(parts.dns_configs));
  chain.add("descriptors", std::make_shared<Descriptors>());
  chain.add("mechanisms", std::make_shared<Mechanisms>(std::move(mechanisms)));
  chain_ = std::move(chain).build();

  serve_connections(services_, parts.scheduler, chain_);
  serve_monitor(services_, AuthorizeMonitor(*monitor_, parts.authorization, authorize));
  serve_health(services_, parts.scheduler, {"networkservice.NetworkService", "connection.MonitorConnection"});
}

base::Task<void> Endpoint::finish() {
  co_await monitor_->finish();
  co_await begin_->finish();
}

}  // namespace mesh
