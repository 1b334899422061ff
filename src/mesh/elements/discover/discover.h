// SPDX-License-Identifier: Apache-2.0
// Finds the endpoint: the one the request names, or, of those that offer the service and match the client's labels, the
// next in turn; when that one fails, the one after it.
//
// After: begin. Gives: NextHop. Changes: endpoint name, payload. Keeps: NextHop. A failed attempt has undone itself
// below. Repeated request: names its endpoint, so only that one is looked up.
#pragma once

#include <map>
#include <string>

#include "mesh/core/element.h"
#include "mesh/core/registry.h"
#include "mesh/elements/connect/next_hop.h"

namespace mesh {

class Discover final : public Element {
 public:
  using Needs = Types<Serialised>;
  using Gives = Types<NextHop>;

  Discover(ServiceRegistry& services, EndpointRegistry& endpoints) : services_(services), endpoints_(endpoints) {}

  base::Task<base::Result<Connection>> request(Call& call, NetworkServiceRequest request) override;
  base::Task<base::Result<void>> close(Call& call, Connection connection) override;

 private:
  base::Task<base::Result<NextHop>> find_named(CallContext& context, const std::string& name);

  ServiceRegistry& services_;
  EndpointRegistry& endpoints_;
  std::map<std::string, std::size_t> turns_;  // by network service: how many attempts there were
};

// A find of the registry on a call's behalf.
RegistryCall registry_call(const CallContext& context);

// The service of exactly that name. payload narrows the search if it is not empty.
base::Task<base::Result<NetworkService>> find_service(ServiceRegistry& services, const CallContext& context,
                                                      std::string name, std::string payload);

}  // namespace mesh
