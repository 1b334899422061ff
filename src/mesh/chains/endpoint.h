// SPDX-License-Identifier: Apache-2.0
// An endpoint without its process: takes connections, gives them addresses and its own interface's place.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "mesh/core/chain.h"
#include "mesh/core/token.h"
#include "mesh/elements/authorize/authorization.h"
#include "mesh/elements/begin/begin.h"
#include "mesh/elements/ipam/point_to_point.h"
#include "mesh/elements/monitor/monitor.h"
#include "rpc/transport.h"

namespace mesh {

struct EndpointParts {
  base::Scheduler& scheduler;
  base::Random& random;
  rpc::Transport& transport;
  TokenSource& tokens;
  std::string name;
  rpc::Descriptor network_namespace;  // where its interfaces go
  PointToPointIpam addresses;
  std::vector<connectioncontext::DNSConfig> dns_configs;
  base::Duration idle_timeout{};           // 0: never
  std::function<void()> idle;              // called once after that long without a connection
  Authorization* authorization = nullptr;  // null: whoever reaches it may request and close
};

class Endpoint {
 public:
  explicit Endpoint(const EndpointParts& parts);

  const rpc::Services& services() const { return services_; }
  const Begin& connections() const { return *begin_; }

  base::Task<void> finish();

 private:
  std::shared_ptr<Begin> begin_;
  std::shared_ptr<Monitor> monitor_;
  Chain chain_;
  rpc::Services services_;
};

}  // namespace mesh
