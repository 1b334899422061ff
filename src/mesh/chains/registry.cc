// SPDX-License-Identifier: Apache-2.0
#include "mesh/chains/registry.h"

namespace mesh {

RegistryChain::RegistryChain(const RegistryChainParts& parts)
    : service_path_(parts.tokens),
      service_serialised_(parts.scheduler),
      service_proxy_(parts.proxy_services),
      endpoint_path_(parts.tokens),
      endpoint_serialised_(parts.scheduler),
      endpoint_proxy_(parts.proxy_endpoints),
      expiry_(parts.scheduler, parts.tokens, endpoint_serialised_),
      services_(link_registry<Services>(
          {
              &service_path_,  // the path header, both ways
              // here the identity layer will decide who may (un)register a name
              &service_serialised_,  // one call per name at a time
              &service_proxy_,       // name@domain goes elsewhere
              &payload_,             // IP unless it says otherwise
          },
          parts.services)),
      endpoints_(link_registry<Endpoints>(
          {
              &endpoint_path_,
              // here too
              &endpoint_serialised_, &endpoint_proxy_,
              &expiry_,  // a minute at most, then unregistered
              &time_,    // when it was first registered
          },
          parts.endpoints)) {}

}  // namespace mesh
