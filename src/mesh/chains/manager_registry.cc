// SPDX-License-Identifier: Apache-2.0
#include "mesh/chains/manager_registry.h"

namespace mesh {

ManagerRegistry::ManagerRegistry(const ManagerRegistryParts& parts)
    : service_path_(parts.tokens),
      service_authorize_(parts.authorization),
      service_serialised_(parts.scheduler),
      endpoint_path_(parts.tokens),
      endpoint_authorize_(parts.authorization),
      endpoint_serialised_(parts.scheduler),
      client_info_(parts.client_info),
      expiry_(parts.scheduler, parts.tokens, endpoint_serialised_),
      local_bypass_(parts.public_url),
      services_(link_registry<Services>(
          {
              &service_path_,        // the path header, both ways
              &service_authorize_,   // who may (un)register a name
              &service_serialised_,  // one call per name at a time
          },
          parts.services)),
      endpoints_(link_registry<Endpoints>(
          {
              &endpoint_path_, &endpoint_authorize_, &endpoint_serialised_,
              &client_info_,   // nodeName and the like
              &expiry_,        // a minute at most, then unregistered here and upstream
              &descriptors_,   // sockets that came beside a registration, lent to finders
              &local_bypass_,  // upstream sees the manager's URL, the node sees the endpoint's
          },
          parts.endpoints)) {}

}  // namespace mesh
