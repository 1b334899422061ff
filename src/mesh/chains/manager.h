// SPDX-License-Identifier: Apache-2.0
// `patchbay manager` without its process: the node's registry facade and the chain its connections pass.
#pragma once

#include <memory>
#include <string>

#include "base/random.h"
#include "mesh/chains/manager_registry.h"
#include "mesh/core/chain.h"
#include "mesh/elements/authorize/authorization.h"
#include "mesh/elements/begin/begin.h"
#include "mesh/elements/client_info/client_info.h"
#include "mesh/elements/excluded_prefixes/prefix_file.h"
#include "mesh/elements/monitor/monitor.h"
#include "mesh/elements/service_watch/service_watch.h"
#include "rpc/transport.h"

namespace mesh {

struct ManagerParts {
  base::Scheduler& scheduler;
  base::Random& random;
  rpc::Transport& transport;
  TokenSource& tokens;
  ServiceRegistry& services;  // upstream
  EndpointRegistry& endpoints;
  std::string name;
  std::string public_url;         // as other managers dial it
  std::string forwarder_service;  // what forwarders register as
  ClientInfo client_info;
  PrefixFile excluded_prefixes;
  Authorization* authorization = nullptr;  // null: whoever reaches it may do all that it does
};

class Manager {
 public:
  explicit Manager(const ManagerParts& parts);

  const rpc::Services& services() const { return services_; }
  const Begin& connections() const { return *begin_; }

  // Ends watching and monitoring. Connections stay: their other hops carry on, and find this manager again.
  base::Task<void> finish();

 private:
  ManagerRegistry registry_;
  std::shared_ptr<Begin> begin_;
  std::shared_ptr<Monitor> monitor_;
  std::shared_ptr<ServiceWatch> service_watch_;
  Chain chain_;
  rpc::Services services_;
};

}  // namespace mesh
