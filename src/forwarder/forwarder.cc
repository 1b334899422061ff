// SPDX-License-Identifier: Apache-2.0
#include "forwarder/forwarder.h"

#include "forwarder/elements/kernel_mechanism.h"
#include "forwarder/elements/vxlan_mechanism.h"
#include "mesh/chains/serving.h"
#include "mesh/elements/authorize/authorize.h"
#include "mesh/elements/authorize_monitor/authorize_monitor.h"
#include "mesh/elements/connect/connect.h"
#include "mesh/elements/descriptors/descriptors.h"
#include "mesh/elements/discover/discover.h"
#include "mesh/elements/mechanisms/mechanisms.h"
#include "mesh/elements/mtu/mtu.h"
#include "mesh/elements/path/path.h"
#include "mesh/elements/path_token/path_token.h"
#include "mesh/elements/timeout/timeout.h"
#include "mesh/elements/trim_path/trim_path.h"

namespace forwarder {

Forwarder::Forwarder(const ForwarderParts& parts)
    : vnis_(parts.random),
      begin_(std::make_shared<mesh::Begin>(mesh::Begin::Side::server, parts.scheduler)),
      monitor_(std::make_shared<mesh::Monitor>(parts.scheduler, parts.transport)),
      reconciler_(parts.scheduler, parts.plane, *begin_, parts.max_token_lifetime) {
  const auto vxlan = std::make_shared<VxlanMechanism>(vnis_, parts.crossing.underlay, parts.crossing.vxlan_port);
  mesh::Mechanisms::Offers mechanisms;
  mechanisms.emplace(mesh::kKernel, std::make_shared<KernelMechanism>(parts.random));
  mechanisms.emplace(mesh::kVxlan, vxlan);
  if (parts.crossing.allow_plaintext_ip) mechanisms.emplace(kPlainVxlan, vxlan);

  mesh::ChainBuilder chain;
  chain.add("path", std::make_shared<mesh::PathElement>(parts.name, parts.random));
  chain.add("path_token", std::make_shared<mesh::PathToken>(parts.tokens));
  const auto authorize = std::make_shared<mesh::Authorize>(parts.authorization, begin_);
  chain.add("authorize", authorize);
  chain.add("begin", begin_);
  chain.add("timeout", std::make_shared<mesh::Timeout>());
  chain.add("monitor", monitor_);
  chain.add("trim_path", std::make_shared<mesh::TrimPath>());
  chain.add("descriptors", std::make_shared<mesh::Descriptors>());
  chain.add("discover", std::make_shared<mesh::Discover>(parts.services, parts.endpoints));
  chain.add("mtu", std::make_shared<mesh::Mtu>());
  chain.add("mechanisms", std::make_shared<mesh::Mechanisms>(std::move(mechanisms)));
  chain.add("crossing", std::make_shared<Crossing>(parts.plane, parts.crossing));
  chain.add("connect", std::make_shared<mesh::Connect>(parts.transport));
  chain_ = std::move(chain).build();

  mesh::serve_connections(services_, parts.scheduler, chain_);
  mesh::serve_monitor(services_, mesh::AuthorizeMonitor(*monitor_, parts.authorization, authorize));
  mesh::serve_health(services_, parts.scheduler, {"networkservice.NetworkService", "connection.MonitorConnection"});
}

base::Task<void> Forwarder::finish() {
  co_await reconciler_.finish();
  co_await monitor_->finish();
  co_await begin_->finish();
}

}  // namespace forwarder
