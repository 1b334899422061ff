// SPDX-License-Identifier: Apache-2.0
// Chooses the forwarder that carries a connection, in the manager: one of this node's that bears the labels the service
// demands (p2p=true unless it says otherwise).
//
// After: begin. Gives: NextHop. Keeps: the forwarder's name and its address. Candidates are tried in order until one
// succeeds; a failed attempt has undone itself below. Repeated request: the remembered forwarder or none; a request to
// reselect forgets it. After a restart of this process the path remembers for it.
#pragma once

#include <string>

#include "mesh/core/element.h"
#include "mesh/core/registry.h"
#include "mesh/elements/connect/next_hop.h"

namespace mesh {

class ForwarderChoice final : public Element {
 public:
  using Needs = Types<Serialised>;
  using Gives = Types<NextHop>;

  // service: what forwarders register as. public_url: this manager's, by which the registry knows this node's
  // endpoints.
  ForwarderChoice(ServiceRegistry& services, EndpointRegistry& endpoints, std::string service, std::string public_url)
      : services_(services), endpoints_(endpoints), service_(std::move(service)), public_url_(std::move(public_url)) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;
  base::Task<base::Result<void>> close(Call& call, Connection connection) override;

 private:
  base::Task<base::Result<std::vector<Found<Endpoints>>>> find(CallContext& context, std::string name);

  ServiceRegistry& services_;
  EndpointRegistry& endpoints_;
  const std::string service_;
  const std::string public_url_;
};

}  // namespace mesh
