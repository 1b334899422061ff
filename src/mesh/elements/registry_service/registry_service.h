// SPDX-License-Identifier: Apache-2.0
// Serves a registry: its three methods as handlers of a transport. The path header of a registration and an
// unregistration goes back with the answer; an endpoint's socket goes along with what a find answers.
#pragma once

#include "mesh/core/registry.h"
#include "rpc/transport.h"

namespace mesh {

// The registry and the scheduler must outlive the services.
void serve_registry(rpc::Services& services, base::Scheduler& scheduler, ServiceRegistry& registry);
void serve_registry(rpc::Services& services, base::Scheduler& scheduler, EndpointRegistry& registry);

}  // namespace mesh
