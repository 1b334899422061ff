// SPDX-License-Identifier: Apache-2.0
// Who may watch which connections. By default everybody everything, as in NSM. With the policy service_connection a
// subscriber must name a connection that it asked for. With rules it sees what they let it monitor, and always what it
// asked for itself: its heal depends on that.
#pragma once

#include <memory>

#include "mesh/elements/authorize/authorize.h"
#include "mesh/elements/monitor/monitor.h"

namespace mesh {

class AuthorizeMonitor {
 public:
  // Everybody everything. The monitor outlives it.
  AuthorizeMonitor(Monitor& monitor) : monitor_(monitor) {}  // NOLINT: a monitor is one that is open
  // The same if there is no authorization.
  AuthorizeMonitor(Monitor& monitor, Authorization* authorization, std::shared_ptr<const Authorize> makers)
      : monitor_(monitor), authorization_(authorization), makers_(std::move(makers)) {}

  // Serves one subscriber.
  base::Task<base::Result<void>> serve(rpc::ServerCall& call, MonitorScopeSelector selector,
                                       rpc::ServerStream& stream) const;

 private:
  class Filter;

  Monitor& monitor_;
  Authorization* authorization_ = nullptr;
  std::shared_ptr<const Authorize> makers_;
};

}  // namespace mesh
