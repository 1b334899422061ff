// SPDX-License-Identifier: Apache-2.0
// Reads a connection's context as the configuration of one of its two interfaces.
#pragma once

#include "base/result.h"
#include "forwarder/plane.h"
#include "kernel/interface.h"

namespace forwarder {

// Errors name the first address, route, rule or neighbour that cannot be read, and its rule.
base::Result<kernel::InterfaceConfig> interface_config(const connectioncontext::ConnectionContext& context, Side side);

}  // namespace forwarder
