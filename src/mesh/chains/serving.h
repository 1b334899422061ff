// SPDX-License-Identifier: Apache-2.0
// Puts a chain, a monitor and health behind the methods peers call.
#pragma once

#include <string>
#include <vector>

#include "mesh/core/chain.h"
#include "mesh/elements/authorize_monitor/authorize_monitor.h"
#include "rpc/transport.h"

namespace mesh {

// Request and Close. The chain must outlive the services. An answer whose caller has gone is undone: a connection
// nobody knows of must not stay.
void serve_connections(rpc::Services& services, base::Scheduler& scheduler, const Chain& chain);

// MonitorConnections.
void serve_monitor(rpc::Services& services, AuthorizeMonitor monitor);

// The standard health service: SERVING for the empty name (the process) and the names given, NOT_FOUND for others.
void serve_health(rpc::Services& services, base::Scheduler& scheduler, std::vector<std::string> names);

}  // namespace mesh
