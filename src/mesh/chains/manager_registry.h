// SPDX-License-Identifier: Apache-2.0
// The registry as a manager shows it to its node: upstream is the mesh's registry, or a store of the manager's own.
#pragma once

#include <string>

#include "mesh/core/token.h"
#include "mesh/elements/registry_authorize/registry_authorize.h"
#include "mesh/elements/registry_client_info/registry_client_info.h"
#include "mesh/elements/registry_descriptors/registry_descriptors.h"
#include "mesh/elements/registry_expiry/registry_expiry.h"
#include "mesh/elements/registry_local_bypass/registry_local_bypass.h"
#include "mesh/elements/registry_path/registry_path.h"
#include "mesh/elements/registry_serialised/registry_serialised.h"

namespace mesh {

struct ManagerRegistryParts {
  base::Scheduler& scheduler;
  TokenSource& tokens;
  std::string public_url;     // of this manager, as other managers dial it
  Labels client_info;         // nodeName, podName, clusterName, as far as they are known
  ServiceRegistry& services;  // upstream
  EndpointRegistry& endpoints;
  Authorization* authorization = nullptr;  // null: whoever reaches it may register any name
};

class ManagerRegistry {
 public:
  explicit ManagerRegistry(const ManagerRegistryParts& parts);

  base::Task<void> finish() { return expiry_.finish(); }

  // For this node's processes and, by calls without a link, for the manager itself. A local endpoint is found with the
  // URL it registered and, if that is an inode URL, with its socket (Found::socket).
  ServiceRegistry& services() { return services_; }
  EndpointRegistry& endpoints() { return endpoints_; }

 private:
  RegistryPath<Services> service_path_;
  RegistryAuthorize<Services> service_authorize_;
  RegistrySerialised<Services> service_serialised_;

  RegistryPath<Endpoints> endpoint_path_;
  RegistryAuthorize<Endpoints> endpoint_authorize_;
  RegistrySerialised<Endpoints> endpoint_serialised_;
  RegistryClientInfo client_info_;
  RegistryExpiry expiry_;
  RegistryDescriptors descriptors_;
  RegistryLocalBypass local_bypass_;

  ServiceRegistry& services_;
  EndpointRegistry& endpoints_;
};

}  // namespace mesh
