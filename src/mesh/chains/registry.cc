// SPDX-License-Identifier: Apache-2.0
#include "mesh/chains/registry.h"

namespace mesh {

RegistryChain::RegistryChain(const RegistryChainParts& parts)
    : scheduler_(parts.scheduler),
      service_path_(parts.tokens),
      service_authorize_(parts.authorization),
      service_serialised_(parts.scheduler),
      service_proxy_(parts.proxy_services),
      endpoint_path_(parts.tokens),
      endpoint_authorize_(parts.authorization),
      endpoint_serialised_(parts.scheduler),
      endpoint_proxy_(parts.proxy_endpoints),
      expiry_(parts.scheduler, parts.tokens, endpoint_serialised_),
      services_(link_registry<Services>(
          {
              &service_path_,        // the path header, both ways
              &service_authorize_,   // who may (un)register a name
              &service_serialised_,  // one call per name at a time
              &service_proxy_,       // name@domain goes elsewhere
              &payload_,             // IP unless it says otherwise
          },
          parts.services)),
      endpoints_(link_registry<Endpoints>(
          {
              &endpoint_path_, &endpoint_authorize_, &endpoint_serialised_, &endpoint_proxy_,
              &expiry_,  // a minute at most, then unregistered
              &time_,    // when it was first registered
          },
          parts.endpoints)) {}

base::Task<base::Result<void>> RegistryChain::start() {
  auto adopted = co_await service_authorize_.adopt(scheduler_);
  if (adopted) adopted = co_await endpoint_authorize_.adopt(scheduler_);
  if (!adopted) co_return adopted;
  co_return co_await expiry_.adopt();
}

}  // namespace mesh
