// SPDX-License-Identifier: Apache-2.0
// `patchbay forwarder` without its process: the chain that finds endpoints and plugs wires to them.
#pragma once

#include <memory>
#include <string>

#include "base/random.h"
#include "forwarder/elements/crossing.h"
#include "forwarder/reconciler.h"
#include "forwarder/vni_allocator.h"
#include "mesh/core/chain.h"
#include "mesh/core/registry.h"
#include "mesh/core/token.h"
#include "mesh/elements/authorize/authorization.h"
#include "mesh/elements/begin/begin.h"
#include "mesh/elements/monitor/monitor.h"
#include "rpc/transport.h"

namespace forwarder {

struct ForwarderParts {
  base::Scheduler& scheduler;
  base::Random& random;
  rpc::Transport& transport;
  mesh::TokenSource& tokens;
  mesh::ServiceRegistry& services;  // the manager's
  mesh::EndpointRegistry& endpoints;
  Plane& plane;
  std::string name;
  CrossingOptions crossing;
  base::Duration max_token_lifetime;  // after this an unclaimed wire of an earlier life has no owner any more
  mesh::Authorization* authorization = nullptr;  // null: whoever reaches it may request and close
};

class Forwarder {
 public:
  explicit Forwarder(const ForwarderParts& parts);

  const rpc::Services& services() const { return services_; }
  const mesh::Begin& connections() const { return *begin_; }
  std::size_t vnis() const { return vnis_.size(); }

  // Adopts what an earlier life of this forwarder left, and begins to reconcile.
  base::Task<void> start() { return reconciler_.start(); }

  // Ends monitoring and reconciling; wires stay plugged.
  base::Task<void> finish();

 private:
  VniAllocator vnis_;
  std::shared_ptr<mesh::Begin> begin_;
  std::shared_ptr<mesh::Monitor> monitor_;
  mesh::Chain chain_;
  Reconciler reconciler_;
  rpc::Services services_;
};

}  // namespace forwarder
