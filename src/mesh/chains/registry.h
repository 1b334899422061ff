// SPDX-License-Identifier: Apache-2.0
// What `patchbay registry` puts in front of its store: two chains of elements, one for services and one for endpoints.
#pragma once

#include "mesh/core/token.h"
#include "mesh/elements/registry_authorize/registry_authorize.h"
#include "mesh/elements/registry_expiry/registry_expiry.h"
#include "mesh/elements/registry_path/registry_path.h"
#include "mesh/elements/registry_payload/registry_payload.h"
#include "mesh/elements/registry_proxy/registry_proxy.h"
#include "mesh/elements/registry_serialised/registry_serialised.h"
#include "mesh/elements/registry_time/registry_time.h"

namespace mesh {

struct RegistryChainParts {
  base::Scheduler& scheduler;
  TokenSource& tokens;
  ServiceRegistry& services;  // the store
  EndpointRegistry& endpoints;
  ServiceRegistry* proxy_services = nullptr;  // other domains' registry, if there is one
  EndpointRegistry* proxy_endpoints = nullptr;
  Authorization* authorization = nullptr;  // null: whoever reaches it may register any name
};

class RegistryChain {
 public:
  explicit RegistryChain(const RegistryChainParts& parts);

  // Takes on the endpoints that the store remembers, and whose its names are; before serving.
  base::Task<base::Result<void>> start();
  base::Task<void> finish() { return expiry_.finish(); }

  ServiceRegistry& services() { return services_; }
  EndpointRegistry& endpoints() { return endpoints_; }

 private:
  base::Scheduler& scheduler_;
  RegistryPath<Services> service_path_;
  RegistryAuthorize<Services> service_authorize_;
  RegistrySerialised<Services> service_serialised_;
  RegistryProxy<Services> service_proxy_;
  RegistryPayload payload_;

  RegistryPath<Endpoints> endpoint_path_;
  RegistryAuthorize<Endpoints> endpoint_authorize_;
  RegistrySerialised<Endpoints> endpoint_serialised_;
  RegistryProxy<Endpoints> endpoint_proxy_;
  RegistryExpiry expiry_;
  RegistryTime time_;

  ServiceRegistry& services_;
  EndpointRegistry& endpoints_;
};

}  // namespace mesh
