// SPDX-License-Identifier: Apache-2.0
// Holds the listening sockets of endpoints that registered with an inode URL, and lends them to whoever finds the
// endpoint.
//
// Changes no URL of a registration. Keeps, per name: the socket's descriptor, until the endpoint is unregistered or
// expires. A registration may name only an inode that came over its own connection, or that the same name has
// registered before: or any workload could claim another's socket. Waits for a descriptor on its way, no longer than
// the call may take. On a failed registration the name is as before. A refresh need not bring the file again.
//
// Answers of a find: an inode URL gets its descriptor (Found::socket). A socket's path (unix:) is opened and named by
// inode, if the caller is another process, whose file system may differ; a path that cannot be opened is passed on as
// it is.
#pragma once

#include <map>
#include <string>

#include "mesh/elements/registry_element/registry_element.h"

namespace mesh {

class RegistryDescriptors final : public RegistryElement<Endpoints> {
 public:
  base::Task<base::Result<NetworkServiceEndpoint>> enroll(RegistryCall& call, NetworkServiceEndpoint endpoint) override;
  base::Task<base::Result<void>> withdraw(RegistryCall& call, NetworkServiceEndpoint endpoint) override;
  base::Task<base::Result<Stream>> find(RegistryCall& call, Query query) override;

 private:
  base::Task<base::Result<rpc::Descriptor>> received(RegistryCall& call, std::string name, rpc::InodeKey key);

  std::map<std::string, rpc::Descriptor, std::less<>> held_;
};

}  // namespace mesh
